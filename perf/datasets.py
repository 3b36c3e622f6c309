"""Synthetic data sets on disk, made once per version of the generator and reused by later runs."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.files.predictions import write_predictions
from ovd_bench.metrics.types import Predictions
from ovd_bench.perf import synthetic
from ovd_bench.perf.peers import FORMS

_SEED = 1


def synthetic_set(work: Path, protocol: str, images: int) -> Path:
    """Directory with ``gt.json`` and the predictions in every form, below ``work``.

    Args:
        work: folder in which data sets are kept.
        protocol: ``lvis`` (300 detections per image, 1,203 classes) or ``coco`` (100 per image, 80 classes).
        images: number of images.
    """
    sources = Path(synthetic.__file__).read_bytes() + Path(__file__).read_bytes()
    target = work / f"{protocol}-{images}-{hashlib.sha256(sources).hexdigest()[:8]}"
    if target.exists():
        return target
    work.mkdir(parents=True, exist_ok=True)
    if protocol == "lvis":
        annotations, predictions = synthetic.lvis_scale(_SEED, images)
    else:
        annotations, predictions = synthetic.coco_scale(_SEED, images, detections=100 * images)
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        made = Path(scratch) / "set"
        made.mkdir()
        (made / "gt.json").write_text(json.dumps(annotations))
        write_predictions(made / FORMS["columns"], predictions)
        write_predictions(made / FORMS["JSON"], predictions)
        np.save(made / FORMS["array"], _rows(predictions))
        os.sync()  # writing back a gigabyte would disturb the first runs
        made.rename(target)
    return target


def warm_caches(directory: Path) -> None:
    """Read every file once, so that no time of a evaluator includes the disk, and the annotation cache is filled."""
    read_ground_truth(directory / "gt.json")
    for path in sorted(directory.iterdir()):
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass


def _rows(predictions: Predictions) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """(N, 7) image id, x, y, w, h, score, category id: the rows that pycocotools' ``loadRes`` takes.

    float32 holds these ids exactly, and the compiled evaluators read it at least as fast as float64.
    """
    names = ("image_id", "x", "y", "w", "h", "score", "category_id")
    rows = np.empty((len(predictions), len(names)), np.float32)
    for column, name in enumerate(names):
        rows[:, column] = getattr(predictions, name)
    return rows
