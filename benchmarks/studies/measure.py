"""Metrics of the cells of a study, with their values on shared resamples of the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.subset import restrict
from ovd_bench.benchmarks.scoring.vocabulary_tables import VocabularyTables
from ovd_bench.benchmarks.store.manifest import read_manifest
from ovd_bench.benchmarks.store.predictions import read_run_predictions
from ovd_bench.benchmarks.store.schema import Result
from ovd_bench.benchmarks.studies.cells import Cell
from ovd_bench.metrics.bootstrap import bootstrap, resample_weights
from ovd_bench.metrics.departure import protocol_named
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import evaluate
from ovd_bench.metrics.hierarchy import Hierarchy, Partition
from ovd_bench.metrics.intervals import Estimate
from ovd_bench.metrics.ladder import evaluate_rung
from ovd_bench.metrics.types import GroundTruth
from ovd_bench.metrics.unseen import mean_over, unseen_classes

RESAMPLES = 1000
#: Another numpy may sum in another order; other predictions differ by much more.
_SAME = 1e-9
#: Rungs of the ladder above ``exact``, which is AP itself.
RUNGS = ("syn", "basic", "super", "loc")
#: Metrics of a study, by their name in ``result.json``.
METRICS = ("AP", "APr", "APc", "APf", "unseen/APu", *(f"ladder/AP_{rung}" for rung in RUNGS))

#: By name of the metric, arm and seed of the training.
Metrics = dict[str, dict[str, dict[int, Estimate]]]


@dataclass(frozen=True)
class Scored:
    """A finished cell.

    Attributes:
        cell: which.
        folder: of its run.
        result: of the run.
    """

    cell: Cell
    folder: Path
    result: Result


def check_alike(scored: Sequence[Scored]) -> None:
    """Check that all runs have the same benchmark, protocol and images.

    Raises:
        DataError: one is not.
    """
    for one in scored:
        first = scored[0]
        same = (
            one.result.benchmark == first.result.benchmark
            and one.result.protocol.sha256 == first.result.protocol.sha256
            and read_manifest(one.folder).image_ids == read_manifest(first.folder).image_ids
        )
        if not same:
            raise DataError(
                f"{one.folder}: was scored on other images or under another protocol than {first.folder}: "
                "remove it and run the study again"
            )


def measure(
    scored: Sequence[Scored], *, resamples: int = RESAMPLES, seed: int = 0, advance: Callable[[int], None] | None = None
) -> Metrics:
    """Metrics by name, arm and seed of the training; metrics that are undefined for a cell are left out.

    Args:
        scored: finished cells, all alike.
        resamples: of the images.
        seed: of the resampling.
        advance: called with numbers of cells done.

    Raises:
        DataError: predictions or annotations are missing or changed.
    """
    manifest = read_manifest(scored[0].folder)
    benchmark = manifest.benchmark.benchmark()
    gt = read_ground_truth(benchmark.annotations)
    if manifest.image_ids is not None:
        gt = restrict(gt, manifest.image_ids)
    hierarchy = VocabularyTables.read(benchmark.tables).hierarchy(gt.categories)
    weights = resample_weights(gt.num_images, resamples, seed)
    found: Metrics = {}
    for one in scored:
        for name, value in _of_run(one, gt, hierarchy, weights).items():
            found.setdefault(name, {}).setdefault(one.cell.arm, {})[one.cell.seed] = value
        if advance:
            advance(1)
    return {name: found[name] for name in METRICS if name in found}


def _of_run(
    scored: Scored, gt: GroundTruth, hierarchy: Hierarchy, weights: np.ndarray[tuple[int, int], np.dtype[np.uint8]]
) -> dict[str, Estimate]:
    protocol = protocol_named(scored.result.protocol.name)
    predictions = read_run_predictions(scored.folder)
    exact = evaluate(gt, predictions, protocol, keep_records=True)
    drawn = bootstrap(gt, exact, weights, per_class=True)
    assert drawn.per_class_ap is not None
    estimates = dict(drawn.estimates)
    if len(unseen := unseen_classes(exact)):
        point = float(mean_over(exact.per_class_ap[None], unseen)[0])
        if not np.isnan(point):
            classes = estimates["AP"].classes.only(unseen)
            estimates["unseen/APu"] = Estimate(point, mean_over(drawn.per_class_ap, unseen), classes)
    partitions: dict[str, Partition | None] = {
        "syn": hierarchy.syn,
        "basic": hierarchy.basic,
        "super": hierarchy.super,
        "loc": Partition.single(gt.categories),
    }
    for rung, partition in partitions.items():
        if partition is not None and len(partition) < gt.num_classes:  # else it is the exact rung
            merged, evaluation = evaluate_rung(gt, predictions, protocol, partition)
            if (found := bootstrap(merged, evaluation, weights).estimates.get("AP")) is not None:
                estimates[f"ladder/AP_{rung}"] = found
    recorded, again = scored.result.metrics["AP"].value, exact.metrics["AP"]
    if recorded is None or again is None or abs(again - recorded) > _SAME:
        raise DataError(f"{scored.folder}: its predictions do not give the AP of its result: run the study again")
    return {name: estimates[name] for name in METRICS if name in estimates}
