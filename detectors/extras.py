"""Which extra of the suite brings a package that is missing."""

from __future__ import annotations

#: Import name -> extra. What several extras bring is listed under the smallest of them.
_EXTRAS = {
    "huggingface_hub": "jittor",
    "jittor": "jittor",
    "mpi4py": "mpi",
    "open_clip": "torch",
    "ray": "ray",
    "safetensors": "jittor",
    "sentence_transformers": "judge",
    "tensorboard": "train",
    "timm": "torch",
    "tokenizers": "jittor",
    "torch": "torch",
    "torchvision": "torch",
    "transformers": "torch",
}


def missing_package(error: ModuleNotFoundError) -> str | None:
    """What is missing and the command that installs it, as the end of a line; None if no extra has it."""
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRAS:
        return None
    return f"needs the package '{package}', which is not installed: pip install 'ovd-bench[{_EXTRAS[package]}]'"
