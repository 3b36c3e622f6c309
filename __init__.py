"""Comparative benchmark suite for open-vocabulary object detectors: what Python programs use.

``import ovd_bench as ovd`` loads nothing but this file; each name below is imported when it is first used.
docs/python.md describes them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ovd_bench.benchmarks.api.catalog import (
        dataset_card,
        detector_card,
        list_datasets,
        list_detectors,
        list_metrics,
        list_protocols,
    )
    from ovd_bench.benchmarks.api.detection import NamedDetections, NamedDetector, load_detector, show
    from ovd_bench.benchmarks.api.errors import RunError
    from ovd_bench.benchmarks.api.mean_average_precision import MeanAveragePrecision
    from ovd_bench.benchmarks.api.runs import Results, Run, load_results, load_run, run
    from ovd_bench.benchmarks.api.scores import Comparison, Score, compare, score
    from ovd_bench.benchmarks.data.catalog.card import DatasetCard
    from ovd_bench.detectors.card import DetectorCard
    from ovd_bench.detectors.types import DetectorError
    from ovd_bench.metrics.errors import DataError

    __version__: str

#: ``ovd_bench.coco`` and ``ovd_bench.lvis``
__path__.append(f"{__path__[0]}/benchmarks/api/toplevel")

_API = "ovd_bench.benchmarks.api"
#: Name -> module that has it.
_HOMES = {
    **dict.fromkeys(("list_detectors", "list_datasets", "list_metrics", "list_protocols"), f"{_API}.catalog"),
    **dict.fromkeys(("detector_card", "dataset_card"), f"{_API}.catalog"),
    **dict.fromkeys(("run", "load_run", "load_results", "Run", "Results"), f"{_API}.runs"),
    **dict.fromkeys(("score", "compare", "Score", "Comparison"), f"{_API}.scores"),
    **dict.fromkeys(("load_detector", "show", "NamedDetector", "NamedDetections"), f"{_API}.detection"),
    "MeanAveragePrecision": f"{_API}.mean_average_precision",
    "RunError": f"{_API}.errors",
    "DataError": "ovd_bench.metrics.errors",
    "DetectorError": "ovd_bench.detectors.types",
    "DetectorCard": "ovd_bench.detectors.card",
    "DatasetCard": "ovd_bench.benchmarks.data.catalog.card",
}

__all__ = [
    "list_detectors",
    "list_datasets",
    "list_metrics",
    "list_protocols",
    "detector_card",
    "dataset_card",
    "run",
    "score",
    "compare",
    "load_run",
    "load_results",
    "load_detector",
    "show",
    "MeanAveragePrecision",
    "Run",
    "Results",
    "Score",
    "Comparison",
    "NamedDetector",
    "NamedDetections",
    "DetectorCard",
    "DatasetCard",
    "DataError",
    "DetectorError",
    "RunError",
    "__version__",
]

if not TYPE_CHECKING:  # a type checker would take any name for one of this module

    def __getattr__(name: str) -> object:
        if name == "__version__":
            value = import_module("importlib.metadata").version("ovd-bench")
        elif name in _HOMES:
            value = getattr(import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module 'ovd_bench' has no attribute '{name}'")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
