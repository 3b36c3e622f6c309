"""Ground truth as columns in the user's cache directory, under the sha256 of the annotation file."""

from __future__ import annotations

import json
import logging
import struct
import zipfile
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_cache_path

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.metrics.types import Categories, GroundTruth, Ragged, Texts

#: Part of the file name; raise it when the layout or the reader changes, so that old files are not used.
FORMAT_VERSION = 3

_RAGGED = ("neg", "not_exhaustive")
_TEXTS = ("image_files", "image_names")

#: Exceptions of numpy, zipfile and the value types for a damaged file.
_DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)


def cache_path(sha256: str) -> Path:
    """Path of the columns of the annotation file with that sha256."""
    return user_cache_path("ovd-bench") / "annotations" / f"{sha256}-v{FORMAT_VERSION}.npz"


def store_cached(sha256: str, truth: GroundTruth) -> None:
    """Write the columns; a cache that cannot be written is logged and otherwise ignored."""
    arrays: dict[str, Any] = {}
    texts: dict[str, Any] = {}
    for prefix, owner in (("", truth), ("categories.", truth.categories)):
        for field in fields(owner):
            value = getattr(owner, field.name)
            if isinstance(value, np.ndarray):
                arrays[prefix + field.name] = value
            elif isinstance(value, Ragged):
                arrays[f"{field.name}.offsets"], arrays[f"{field.name}.values"] = value.offsets, value.values
            elif isinstance(value, Texts):
                arrays[f"{field.name}.offsets"], arrays[f"{field.name}.data"] = value.offsets, value.data
            elif not isinstance(value, Categories):
                texts[prefix + field.name] = value
    arrays["texts"] = np.frombuffer(json.dumps({"sha256": sha256, **texts}).encode(), np.uint8)
    path = cache_path(sha256)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            np.savez(file, **arrays)
    except OSError as error:
        logging.getLogger(__name__).warning("%s: the annotation cache cannot be written: %s", path, error.strerror)


def load_cached(sha256: str) -> GroundTruth | None:
    """The columns, or None if the file is missing or damaged."""
    path = cache_path(sha256)
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return _ground_truth(sha256, arrays)
    except _DAMAGE as error:
        logging.getLogger(__name__).warning("%s: damaged, rebuilt: %s", path, error)
        return None


def _ground_truth(sha256: str, arrays: dict[str, Any]) -> GroundTruth:
    texts = json.loads(bytes(arrays.pop("texts")))
    if texts.pop("sha256") != sha256:
        raise ValueError("it belongs to another annotation file")
    values = arrays | texts
    for name in _RAGGED:
        values[name] = Ragged(values.pop(f"{name}.offsets"), values.pop(f"{name}.values"))
    for name in _TEXTS:
        if f"{name}.offsets" in values:
            values[name] = Texts(values.pop(f"{name}.offsets"), values.pop(f"{name}.data"))
    own = {field.name: values.pop(f"categories.{field.name}") for field in fields(Categories)}
    own["synonyms"] = [tuple(words) for words in own["synonyms"]]
    own = {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}
    values["notes"] = tuple(values["notes"])
    return GroundTruth(categories=Categories(**own), **values)
