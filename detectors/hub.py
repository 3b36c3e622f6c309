"""Files of a model: a local folder, or a snapshot of a repository of the Hugging Face hub."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from ovd_bench.detectors.types import DetectorError

_SAFETENSORS = "model*.safetensors"
_BIN = "pytorch_model*.bin"
_TEXT_FILES = ("*.json", "*.txt")


def model_directory(detector: str, source: str) -> Path:
    """Folder of a model: a local folder, or the newest snapshot of a hub repository.

    Args:
        detector: its name, for messages.
        source: path of a directory, or hub id; files in the hub's local cache are not fetched again.

    Raises:
        DetectorError: neither, or the repository cannot be fetched.
    """
    if not source:
        raise DetectorError(f"detector '{detector}' names no weights: give --weights DIR")
    path = Path(source)
    if path.is_dir():
        return path
    if path.exists() or path.is_absolute() or source.startswith(".") or source.count("/") != 1:
        raise DetectorError(
            f"{source}: is neither a directory nor a hub id: expected a folder with config.json and weights"
        )
    return _from_hub(detector, source)


def _from_hub(detector: str, repository: str) -> Path:
    """The newest snapshot of a hub repository; files in the local cache are not fetched again."""
    with contextlib.suppress(LocalEntryNotFoundError, HFValidationError, DetectorError):
        cached = Path(snapshot_download(repository, local_files_only=True))
        weight_files(cached)
        return cached
    try:
        with _no_bars():
            directory = Path(snapshot_download(repository, allow_patterns=[*_TEXT_FILES, _SAFETENSORS]))
            if not list(directory.glob(_SAFETENSORS)):
                snapshot_download(repository, allow_patterns=[_BIN])
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DetectorError(
            f"detector '{detector}': the weights '{repository}' are not in the hub's local cache and cannot be fetched "
            f"({reason}): give --weights DIR"
        ) from error
    return directory


def weight_files(directory: Path) -> list[Path]:
    """Weight files of a folder, safetensors before pickles that torch wrote.

    Raises:
        DetectorError: there are none, or only those of an adapter.
    """
    names = sorted(file.name for file in directory.iterdir() if file.is_file())
    for pattern in (_SAFETENSORS, _BIN):
        if found := fnmatch.filter(names, pattern):
            return [directory / name for name in found]
    if "adapter_config.json" in names:
        raise DetectorError(f"{directory}: is a LoRA adapter, not a model: merge it into its base model and save that")
    raise DetectorError(f"{directory}: no weights: expected model.safetensors")


def weights_sha256(files: list[Path]) -> str:
    """Hash of a weight file; of several, the hash of the lines ``name hash``, sorted by name."""
    hashes = {}
    for file in files:
        with file.open("rb") as stream:
            hashes[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = "".join(f"{name} {value}\n" for name, value in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """No progress bars; problems are raised as errors."""
    off = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not off:
            enable_progress_bars()
