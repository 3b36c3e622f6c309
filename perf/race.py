"""Runs evaluators alternating, each run in a fresh process, so that other load on the machine affects all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from ovd_bench.perf.child import Metrics, Run, run_child
from ovd_bench.perf.datasets import warm_caches
from ovd_bench.perf.peers import Evaluator


@dataclass(frozen=True)
class Timing:
    """All runs of one evaluator on one set."""

    evaluator: Evaluator
    images: int
    runs: tuple[Run, ...]

    @property
    def seconds(self) -> float:
        """Median wall time."""
        return median(run.seconds for run in self.runs)

    @property
    def peak_rss(self) -> float:
        """Median peak memory, bytes."""
        return median(run.peak_rss for run in self.runs)

    @property
    def metrics(self) -> Metrics:
        """Statistics, the same in every run.

        Raises:
            RuntimeError: two runs differ.
        """
        if any(run.metrics != self.runs[0].metrics for run in self.runs):
            raise RuntimeError(f"{self.evaluator.name} gave different statistics in different runs")
        return self.runs[0].metrics


def race(evaluators: list[Evaluator], directory: Path, tiny: Path, images: int, repeats: int) -> list[Timing]:
    """Run all evaluators on one data set, alternating; oracles take part only in the first round."""
    warm_caches(directory)
    timings = {c.name: Timing(c, images, ()) for c in evaluators if c.largest is None or images <= c.largest}
    for repeat in range(repeats):
        for name, timing in timings.items():
            if repeat == 0 or not timing.evaluator.oracle:
                arguments = (name, timing.evaluator.protocol, str(directory), str(tiny))
                run = run_child("ovd_bench.perf.peers", *arguments)
                timings[name] = replace(timing, runs=(*timing.runs, run))
    return list(timings.values())
