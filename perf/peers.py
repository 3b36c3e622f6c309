"""Every evaluator behind one interface: from files to the official statistics.

Run by ``perf.race`` as ``python -m ovd_bench.perf.peers NAME PROTOCOL DIRECTORY TINY_DIRECTORY``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ovd_bench.perf.child import Metrics, time_and_report

#: Distribution name of this project, as the tables show it.
OURS = "ovd-bench"

#: File of the predictions in each form of input; the ground truth is ``gt.json`` for all evaluators.
FORMS = {"columns": "dt.arrow", "JSON": "dt.json", "array": "dt.npy"}

#: Names of the positions of pycocotools' ``COCOeval.stats``.
_COCO_STATISTICS = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("AR@1", "AR@10", "AR@100", "ARs@100", "ARm@100", "ARl@100"),
)

#: lvis-api's names, and faster-coco-eval's names of the same statistics.
_FASTER_COCO_EVAL_NAMES = {
    **{"AP": "AP_all", "AP50": "AP_50", "AP75": "AP_75", "APs": "AP_small", "APm": "AP_medium", "APl": "AP_large"},
    **{"APr": "APr", "APc": "APc", "APf": "APf"},
    **{"AR@300": "AR_all", "ARs@300": "AR_small", "ARm@300": "AR_medium", "ARl@300": "AR_large"},
}


@dataclass(frozen=True)
class Evaluator:
    """One evaluator with one form of input.

    Attributes:
        library: distribution name.
        form: key of ``FORMS``.
        protocol: ``lvis`` or ``coco``.
        score: from the paths of ground truth and predictions to statistics.
        oracle: the official evaluator: it runs once, and the statistics must equal its own.
        largest: most images it is run on; None = any number.
    """

    library: str
    form: str
    protocol: str
    score: Callable[[Path, Path], Metrics]
    oracle: bool = False
    largest: int | None = None

    @property
    def name(self) -> str:
        """Name in tables and on the command line."""
        return f"{self.library}, {self.form}"


def _ours(protocol: str, *, cache: bool) -> Callable[[Path, Path], Metrics]:
    """The suite's engine; ``cache`` allows ground truth from the annotation cache, as at the second score of a file."""

    def score(gt: Path, dt: Path) -> Metrics:
        from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
        from ovd_bench.benchmarks.data.files.predictions import read_predictions
        from ovd_bench.metrics.evaluate import evaluate
        from ovd_bench.metrics.protocol import PROTOCOLS

        return evaluate(read_ground_truth(gt, cache=cache), read_predictions(dt), PROTOCOLS[protocol]).metrics

    return score


def _hotcoco_lvis(gt: Path, dt: Path) -> Metrics:
    from hotcoco import LVIS, LVISEval, LVISResults

    truth = LVIS(str(gt))
    return _defined(_finish(LVISEval(truth, LVISResults(truth, _results(dt)), "bbox")).get_results())


def _ultrafast_lvis(gt: Path, dt: Path) -> Metrics:
    from ultrafast_pycocotools import COCO, COCOeval

    truth = COCO(str(gt))
    found = _finish(COCOeval(truth, truth.loadRes(_results(dt)), "bbox", lvis_style=True)).stats_as_dict
    return _defined({name: found[name] for name in _FASTER_COCO_EVAL_NAMES})


def _faster_coco_eval_lvis(gt: Path, dt: Path) -> Metrics:
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(str(gt))
    evaluation = COCOeval_faster(truth, truth.loadRes(_results(dt)), "bbox", lvis_style=True)
    evaluation.params.maxDets = [300]
    found = _finish(evaluation).stats_as_dict
    return _defined({name: found[theirs] for name, theirs in _FASTER_COCO_EVAL_NAMES.items()})


def _lvis_api(gt: Path, dt: Path) -> Metrics:
    setattr(np, "float", float)  # noqa: B010  # its last release needs the alias that numpy 1.24 removed
    from lvis import LVIS, LVISEval, LVISResults

    truth = LVIS(str(gt))
    return _defined(_finish(LVISEval(truth, LVISResults(truth, str(dt)), "bbox")).get_results())


def _coco(dataset_module: str, evaluator_module: str) -> Callable[[Path, Path], Metrics]:
    """Any library with the interface of pycocotools."""

    def score(gt: Path, dt: Path) -> Metrics:
        truth = import_module(dataset_module).COCO(str(gt))
        evaluator = import_module(evaluator_module).COCOeval
        found = _finish(evaluator(truth, truth.loadRes(_results(dt)), "bbox")).stats
        return _defined(dict(zip(_COCO_STATISTICS, found, strict=True)))

    return score


def _results(dt: Path) -> Any:
    """Argument of ``loadRes``: an array, or the path of a JSON file as text."""
    return np.load(dt) if dt.suffix == ".npy" else str(dt)


def _finish(evaluation: Any) -> Any:
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def _defined(statistics: Mapping[str, float]) -> Metrics:
    """The libraries write -1 for undefined."""
    return {name: None if value == -1 else float(value) for name, value in statistics.items()}


_HOTCOCO, _ULTRAFAST = "hotcoco", "ultrafast-pycocotools"

EVALUATORS = (
    Evaluator(OURS, "columns", "lvis", _ours("lvis", cache=True)),
    Evaluator(OURS, "JSON", "lvis", _ours("lvis", cache=False)),
    Evaluator(_HOTCOCO, "array", "lvis", _hotcoco_lvis),
    Evaluator(_HOTCOCO, "JSON", "lvis", _hotcoco_lvis),
    Evaluator(_ULTRAFAST, "JSON", "lvis", _ultrafast_lvis, largest=1000),
    Evaluator("faster-coco-eval", "JSON", "lvis", _faster_coco_eval_lvis, largest=1000),
    # dense Python lists over classes x images: 1.2 GB for 1,000 images
    Evaluator("lvis", "JSON", "lvis", _lvis_api, oracle=True, largest=1000),
    Evaluator(OURS, "columns", "coco", _ours("coco", cache=True)),
    Evaluator(OURS, "JSON", "coco", _ours("coco", cache=False)),
    Evaluator(_HOTCOCO, "array", "coco", _coco("hotcoco", "hotcoco")),
    Evaluator(_HOTCOCO, "JSON", "coco", _coco("hotcoco", "hotcoco")),
    Evaluator(_ULTRAFAST, "array", "coco", _coco("ultrafast_pycocotools", "ultrafast_pycocotools")),
    Evaluator(_ULTRAFAST, "JSON", "coco", _coco("ultrafast_pycocotools", "ultrafast_pycocotools")),
    Evaluator("pycocotools", "JSON", "coco", _coco("pycocotools.coco", "pycocotools.cocoeval"), oracle=True),
)


def _main(name: str, protocol: str, directory: str, tiny_directory: str) -> None:
    evaluator = next(c for c in EVALUATORS if (c.name, c.protocol) == (name, protocol))

    def score(of: str) -> Metrics:
        return evaluator.score(Path(of) / "gt.json", Path(of) / FORMS[evaluator.form])

    score(tiny_directory)  # untimed: imports and all other work that is done once per process
    time_and_report(lambda: score(directory))


if __name__ == "__main__":
    _main(*sys.argv[1:])
