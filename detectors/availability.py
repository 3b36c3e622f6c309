"""Whether a detector runs on this machine: its packages and its weights. No framework is imported."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.errors import DetectorError
from ovd_bench.detectors.hub_names import HubName
from ovd_bench.detectors.shipped import shipped_file

#: Import names of a framework; of hub weights as well.
_FRAMEWORKS = {"torch": ("torch",), "jittor": ("jittor",)}
_FOR_HUB = {"torch": ("transformers", "huggingface_hub"), "jittor": ("huggingface_hub",)}
#: Suffixes of files with weights.
_WEIGHT_FILES = (".bin", ".pt", ".pth", ".safetensors")


def what_is_missing(card: DetectorCard) -> str:
    """What a run of the detector would lack here; empty = nothing.

    Only places are looked at, no file is read: weights may still be damaged.
    """
    name = None if Path(card.weights).exists() else HubName.of(card.weights)
    packages = [*_FRAMEWORKS.get(card.framework, ()), *(_FOR_HUB.get(card.framework, ()) if name else ())]
    if absent := [package for package in packages if find_spec(package) is None]:
        return f"package {absent[0]}"
    if not card.weights:
        return "--weights"
    if name is not None:
        return "" if _in_hub_cache(name) else "weights to fetch"
    try:
        file = shipped_file(card.weights)
    except DetectorError:
        return "weights"
    return "" if (file or Path(card.weights)).exists() else "weights"


def is_path(source: str) -> bool:
    """Whether a source of weights can only be a path: it is neither shipped nor a name of the hub."""
    return shipped_file(source) is None and (
        source.startswith((os.sep, ".", "~")) or Path(source).suffix in _WEIGHT_FILES or HubName.of(source) is None
    )


def _in_hub_cache(name: HubName) -> bool:
    """Whether the local cache of the hub has weights of a repository, by the layout that huggingface_hub documents."""
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    cache = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", home)) / "hub"
    snapshots = Path(cache).expanduser() / f"models--{name.repository.replace('/', '--')}" / "snapshots"
    which = name.commit or "*"
    return any(snapshots.glob(f"{which}/*.safetensors")) or any(snapshots.glob(f"{which}/*.bin"))
