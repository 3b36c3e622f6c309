"""Time of the bootstrap alone, after one evaluation. Run as ``python -m ovd_bench.perf.resampling DIRECTORY N``."""

from __future__ import annotations

import sys
from pathlib import Path

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.files.predictions import read_predictions
from ovd_bench.metrics.bootstrap import bootstrap, resample_weights
from ovd_bench.metrics.evaluate import evaluate
from ovd_bench.metrics.protocol import PROTOCOLS
from ovd_bench.perf.child import Metrics, time_and_report
from ovd_bench.perf.peers import FORMS


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
