"""lvis-api's classes over the suite's engine: ``from ovd_bench.lvis import LVIS, LVISEval, LVISResults``."""

from ovd_bench.benchmarks.api.lvis import LVIS, LVISEval, LVISResults, Params

__all__ = ["LVIS", "LVISEval", "LVISResults", "Params"]
