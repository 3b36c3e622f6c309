"""The report of a study: measurements, differences, their significance, and the conditions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ovd_bench.benchmarks.speed.record import Measured
from ovd_bench.benchmarks.studies.cells import Cell, stored_numbers, training_facts
from ovd_bench.benchmarks.studies.controlled import SeedManifest, seed_manifests
from ovd_bench.benchmarks.studies.definition import Study
from ovd_bench.benchmarks.studies.measure import RESAMPLES, Metrics, Scored, check_alike, measure
from ovd_bench.benchmarks.studies.resolve import ResolvedArm, ResolvedStudy
from ovd_bench.benchmarks.studies.statistics import RULE, Effect, Spread, corrected, effects
from ovd_bench.metrics.errors import DataError

#: Statistics besides AP, by their names in a result: presence of classes, cost of errors, calibration.
BEYOND = (
    "presence/auroc",
    "presence/fpr95",
    "tide/dAP_cls",
    "tide/dAP_loc",
    "tide/dAP_bkg",
    "tide/dAP_miss",
    "calibration/oLRP",
    "calibration/la_ece",
)
#: Semantic R-precision, its parts, and its value for the same boxes with uninformative labels.
SEMANTIC = (
    "srp/SRP",
    "srp/SRP1",
    "srp/SRP_loc",
    "srp/near_miss_share",
    "srp/random_label",
    "srp/permuted_label",
    "srp/generic_label",
)


@dataclass(frozen=True)
class ArmReport:
    """One arm.

    Attributes:
        arm: with its configuration.
        seeds: with a finished cell.
        spreads: per metric.
        effects: per metric, against the reference; empty for the reference, or without finished seeds of both.
        parameters: of the detector, None where not known.
        learned: parameters in its weights file, None without a finished seed; see ``cells.stored_numbers``.
        speed: of one image at a time, None where it was not measured.
        core_minutes: of training, mean over the seeds; None where no log says it.
        beyond: further statistics of the results, by their names there, over the seeds.
        probes: AP of each probe, and its difference to the usual AP of the same weights, over the seeds.
    """

    arm: ResolvedArm
    seeds: tuple[int, ...]
    spreads: dict[str, Spread]
    effects: dict[str, Effect]
    parameters: int | None
    learned: int | None
    speed: Measured | None
    core_minutes: float | None
    beyond: dict[str, Spread]
    probes: dict[str, tuple[Spread, Spread]]

    @property
    def name(self) -> str:
        """Of the arm."""
        return self.arm.arm.name


@dataclass(frozen=True)
class StudyReport:
    """Content of a report.

    Attributes:
        resolved: the study.
        arms: in its order.
        metrics: names of the measured metrics.
        remarks: notes for the reader, one line each.
        facts: benchmark, protocol, images, resamples.
        manifests: of a controlled study, the inputs of the trainings of each seed; None = not a controlled study.
    """

    resolved: ResolvedStudy
    arms: tuple[ArmReport, ...]
    metrics: tuple[str, ...]
    remarks: tuple[str, ...]
    facts: dict[str, Any]
    manifests: tuple[SeedManifest, ...] | None = None

    @property
    def controlled(self) -> bool:
        """Whether it is proved that the arms differ only in design."""
        return bool(self.manifests) and not any(one.problems for one in self.manifests or ())

    def as_json(self) -> dict[str, Any]:
        """One JSON object; fractions from 0 to 1, not rounded."""
        return {
            "schema": 1,
            "study": self.resolved.written.model_dump(mode="json"),
            "rule": RULE,
            "facts": self.facts,
            "remarks": list(self.remarks),
            "controlled": self.controlled,
            "manifests": None if self.manifests is None else [dataclasses.asdict(one) for one in self.manifests],
            "arms": [
                {
                    "name": arm.name,
                    "about": arm.arm.arm.about,
                    "differs": {key: list(values) for key, values in arm.arm.differences.items()},
                    "config": arm.arm.config.resolved(),
                    "seeds": list(arm.seeds),
                    "parameters": arm.parameters,
                    "learned": arm.learned,
                    "speed": None if arm.speed is None else _speed_json(arm.speed),
                    "core_minutes": arm.core_minutes,
                    "beyond": {name: _spread_json(spread) for name, spread in arm.beyond.items()},
                    "probes": {
                        name: {"AP": _spread_json(ap), "difference": _spread_json(apart)}
                        for name, (ap, apart) in arm.probes.items()
                    },
                    "metrics": {name: _spread_json(spread) for name, spread in arm.spreads.items()},
                    "differences": {name: dataclasses.asdict(one) for name, one in arm.effects.items()},
                    "published": arm.arm.arm.published,
                }
                for arm in self.arms
            ],
        }


def build_report(
    resolved: ResolvedStudy,
    cells: Sequence[Cell],
    *,
    resamples: int = RESAMPLES,
    advance: Callable[[int], None] | None = None,
) -> StudyReport:
    """Measure the finished cells and compare the arms.

    Args:
        resolved: the study.
        cells: all of it.
        resamples: of the images.
        advance: called with numbers of cells measured.

    Raises:
        DataError: no cell is finished, or the finished ones cannot be compared.
    """
    scored, remarks = _finished(cells)
    if not scored:
        raise DataError(f"study '{resolved.study.name}': no cell is finished: run it with 'bench study run'")
    check_alike(scored)
    measured = measure(scored, resamples=resamples, advance=advance)
    found: dict[str, dict[str, Effect]] = {}
    for metric, by_arm in measured.items():
        whole = {name: tuple(by_seed.values()) for name, by_seed in by_arm.items()}
        if resolved.study.reference in whole:
            found[metric] = effects(whole, resolved.study.reference)
    found = corrected(found)
    arms = [_arm_report(one, scored, measured, found) for one in resolved.arms]
    first = scored[0].result
    facts = {
        "benchmark": first.benchmark.name,
        "images": first.benchmark.images,
        "classes": first.benchmark.classes,
        "boxes": first.benchmark.boxes,
        "annotations_sha256": first.benchmark.annotations_sha256,
        "protocol": first.protocol.name,
        "protocol_sha256": first.protocol.sha256,
        "partial": first.partial,
        "cells": len(cells),
        "finished": len(scored),
        "resamples": resamples,
    }
    remarks = [*remarks, *_conditions(scored, resolved)]
    proof = _proof(scored, resolved.study)
    if proof is not None:
        problems = [line for one in proof for line in one.lines]
        if not proof:
            problems = [f"the reference '{resolved.study.reference}' is not finished"]
        remarks += [f"NOT CONTROLLED: {problem}" for problem in problems]
    return StudyReport(resolved, tuple(arms), tuple(measured), tuple(remarks), facts, proof)


def _proof(scored: Sequence[Scored], study: Study) -> tuple[SeedManifest, ...] | None:
    """Recorded inputs of the trainings, if the study is a controlled one."""
    if not study.controlled:
        return None
    facts = {(one.cell.arm, one.cell.seed): training_facts(one.cell.weights) for one in scored}
    return tuple(seed_manifests(facts, study.reference))


def _finished(cells: Sequence[Cell]) -> tuple[list[Scored], list[str]]:
    """Finished cells, and a note on the others."""
    scored, missing, stale = [], [], []
    for cell in cells:
        try:
            there = cell.result() if cell.finished() else None
        except DataError as error:
            stale.append(f"left out: {error}")
            continue
        if there is None:
            missing.append(cell.label)
        else:
            scored.append(Scored(cell, *there))
    remarks = [f"not finished: {'; '.join(missing)}"] if missing else []
    return scored, remarks + stale


def _conditions(scored: Sequence[Scored], resolved: ResolvedStudy) -> list[str]:
    """Notes on conditions that differ between the cells, and on limits of the conclusions."""
    remarks = []
    facts = [training_facts(one.cell.weights) for one in scored]
    for key, what in (("sources", "training data"), ("annotations_sha256", "training data"), ("threads", "threads")):
        if len({str(fact.get(key)) for fact in facts}) > 1:
            remarks.append(f"warning: the cells were trained with different {what}")
    commits = {(one.result.env.git_commit, one.result.env.git_dirty) for one in scored}
    if len(commits) > 1:
        remarks.append(f"warning: the cells were scored with {len(commits)} states of the software")
    if any(dirty for _, dirty in commits):
        remarks.append("warning: the software had changes that are in no commit")
    if scored[0].result.partial:
        remarks.append(f"partial: only {scored[0].result.benchmark.images:,} images of the benchmark were scored")
    if len(resolved.study.seeds) < 2:
        remarks.append("one seed: nothing can be told from the noise of training")
    return remarks


def _arm_report(
    arm: ResolvedArm, scored: Sequence[Scored], measured: Metrics, found: dict[str, dict[str, Effect]]
) -> ArmReport:
    name = arm.arm.name
    own = [one for one in scored if one.cell.arm == name]
    known = [seconds for one in own if (seconds := one.cell.core_seconds()) is not None]
    return ArmReport(
        arm=arm,
        seeds=tuple(one.cell.seed for one in own),
        spreads={
            metric: Spread.of([one.value for one in by_arm[name].values()])
            for metric, by_arm in measured.items()
            if name in by_arm
        },
        effects={metric: by_arm[name] for metric, by_arm in found.items() if name in by_arm},
        parameters=own[0].result.detector.parameters if own else None,
        learned=stored_numbers(own[0].cell.weights) if own else None,
        speed=next(filter(None, (one.cell.speed() for one in own if one.cell.timed)), None),
        core_minutes=float(np.mean(known)) / 60 if known else None,
        beyond=_beyond(own),
        probes=_probes(own),
    )


def _beyond(own: Sequence[Scored]) -> dict[str, Spread]:
    """Statistics besides AP that all results have."""
    found = {}
    for name in (*BEYOND, *SEMANTIC):
        values = [metric.value for one in own if (metric := one.result.metrics.get(name)) and metric.value is not None]
        if own and len(values) == len(own):
            found[name] = Spread.of(values)
    return found


def _probes(own: Sequence[Scored]) -> dict[str, tuple[Spread, Spread]]:
    found = {}
    for probe in own[0].cell.probes if own else ():
        pairs = []
        for one in own:
            there = one.cell.result(probe)
            asked, usual = there[1].metrics["AP"].value if there else None, one.result.metrics["AP"].value
            if asked is not None and usual is not None:
                pairs.append((asked, asked - usual))
        if pairs:
            found[probe.name] = (Spread.of([ap for ap, _ in pairs]), Spread.of([apart for _, apart in pairs]))
    return found


def _speed_json(speed: Measured) -> dict[str, Any]:
    document = speed.model_dump(mode="json")
    # Readers of the report do not need the path of the study: ARM/seed-N/FILE identifies the file.
    document["detector"]["weights"] = "/".join(Path(speed.detector.weights).parts[-3:])
    return document


def _spread_json(spread: Spread) -> dict[str, Any]:
    return {
        "mean": spread.mean,
        "sd": spread.sd,
        "range": [min(spread.values), max(spread.values)],
        "values": list(spread.values),
    }
