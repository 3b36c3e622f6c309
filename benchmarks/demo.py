"""A first run without any data: generate, write, score."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.io.predictions import write_predictions
from benchmarks.scoring import Score, ScoreRequest, score
from benchmarks.synthetic import lvis_scale


def run_demo(images: int, seed: int, resamples: int, say: Callable[[str], None]) -> Score:
    """Generate an LVIS-like set of so many images, write both files as a user would have them, and score them."""
    with tempfile.TemporaryDirectory(prefix="ovd-bench-") as name:
        folder = Path(name)
        start = time.perf_counter()
        annotations, predictions = lvis_scale(seed, images)
        (folder / "annotations.json").write_text(json.dumps(annotations))
        write_predictions(folder / "predictions.arrow", predictions)
        say(
            f"generated {images:,} images and {len(predictions):,} detections in {time.perf_counter() - start:.1f} s "
            "(synthetic: the numbers show speed, not a detector)"
        )
        request = ScoreRequest(
            folder / "predictions.arrow", folder / "annotations.json", "lvis", ["pool"], resamples=resamples, seed=seed
        )
        return score(request)
