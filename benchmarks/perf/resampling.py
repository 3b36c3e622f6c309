"""Time of the bootstrap alone, after one evaluation. Run as ``python -m benchmarks.perf.resampling DIRECTORY N``."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.io.annotations import read_ground_truth
from benchmarks.io.predictions import read_predictions
from benchmarks.perf.child import Metrics, time_and_report
from benchmarks.perf.peers import FORMS
from metrics.bootstrap import bootstrap, resample_weights
from metrics.evaluate import evaluate
from metrics.protocol import PROTOCOLS


def _main(directory: str, resamples: str) -> None:
    gt = read_ground_truth(Path(directory) / "gt.json")
    predictions = read_predictions(Path(directory) / FORMS["columns"])
    evaluation = evaluate(gt, predictions, PROTOCOLS["lvis"], keep_records=True)

    def resample() -> Metrics:
        result = bootstrap(gt, evaluation, resample_weights(gt.num_images, int(resamples), seed=0))
        return {name: estimate.sd for name, estimate in result.estimates.items()}

    time_and_report(resample)


if __name__ == "__main__":
    _main(*sys.argv[1:])
