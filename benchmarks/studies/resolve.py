"""From a study to the configuration of each of its trainings, and what they differ in."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovd_bench.benchmarks.data.prompt_files import read_plan
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.benchmarks.studies.controlled import disagreements
from ovd_bench.benchmarks.studies.definition import Arm, Changes, Probe, Study
from ovd_bench.benchmarks.training.config import TrainingConfig, find_config, validated
from ovd_bench.benchmarks.training.registry import read_config
from ovd_bench.metrics.errors import DataError

#: Values of an arm and of the reference where they differ, by dotted key; a key that one of them lacks is ``None``.
Differences = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class ResolvedArm:
    """An arm with its whole configuration.

    Attributes:
        arm: as the study has it.
        config: of its training, with the first seed.
        differences: to the reference arm; empty for that one. Of another trainer only keys that both have.
    """

    arm: Arm
    config: TrainingConfig
    differences: Differences

    def with_seed(self, seed: int) -> TrainingConfig:
        """The configuration of one training."""
        return self.config.model_copy(update={"seed": seed})


@dataclass(frozen=True)
class ResolvedStudy:
    """A study whose arms are known to differ in exactly what it says.

    Attributes:
        study: as its file has it, paths as they are found from anywhere.
        arms: in the order of the file.
        written: as its file has it, to the letter: what goes to other machines.
    """

    study: Study
    arms: tuple[ResolvedArm, ...]
    written: Study

    @property
    def bases(self) -> str:
        """Configurations that the arms are made of, for people."""
        return ", ".join(dict.fromkeys(map(self.study.base_of, self.study.arms)))

    @property
    def reference(self) -> ResolvedArm:
        """The arm that the others are compared with."""
        return next(one for one in self.arms if one.arm.name == self.study.reference)


def resolve(study: Study, path: Path) -> ResolvedStudy:
    """Work out the configuration of each arm.

    Args:
        study: to resolve.
        path: of its file, for messages and relative paths.

    Raises:
        DataError: no such base; a change to a key that the configuration does not have, with a value that does not
            fit, or that changes nothing; two arms that are the same; a controlled study whose arms differ in what they
            have to share.
    """
    written = study
    beside = path.parent / study.benchmark
    if beside.is_file():
        study = study.model_copy(update={"benchmark": str(beside.resolve())})
    if study.judge and (path.parent / study.judge).is_dir():
        study = study.model_copy(update={"judge": str((path.parent / study.judge).resolve())})
    study = study.model_copy(update={"probes": tuple(_probe(probe, path) for probe in study.probes)})
    names = dict.fromkeys(map(study.base_of, study.arms))
    bases = {name: _changed(read_config(_base(name, path)), study.shared, f"{path}: shared") for name in names}
    configs = {
        arm.name: _changed(bases[study.base_of(arm)], arm.changes, f"{path}: arm '{arm.name}'") for arm in study.arms
    }
    configs = {name: config.model_copy(update={"seed": study.seeds[0]}) for name, config in configs.items()}
    settled = {name: flat(config.resolved()) for name, config in configs.items()}
    for number, arm in enumerate(study.arms):
        for other in study.arms[:number]:
            if settled[other.name] == settled[arm.name]:
                raise DataError(f"{path}: arms '{other.name}' and '{arm.name}' are the same training")
    if study.controlled and (apart := disagreements(settled, study.reference)):
        more = f" (and {len(apart) - 1} more)" if len(apart) > 1 else ""
        raise DataError(f"{path}: is not controlled: {apart[0]}{more}: make them equal, or remove 'controlled'")
    reference = settled[study.reference]
    arms = [ResolvedArm(arm, configs[arm.name], _told(settled[arm.name], reference)) for arm in study.arms]
    return ResolvedStudy(study, tuple(arms), written)


def _probe(probe: Probe, path: Path) -> Probe:
    """A probe with the path of its plan as it is found from anywhere.

    Raises:
        DataError: no such plan, or a bad file.
    """
    beside = path.parent / probe.prompts
    if beside.is_file():
        probe = probe.model_copy(update={"prompts": str(beside.resolve())})
    try:
        read_plan(probe.prompts)
    except DataError as error:
        raise DataError(f"{path}: probe '{probe.name}': {error}") from None
    return probe


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of nested mappings by dotted key; an empty mapping is a value."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def differences(ours: Mapping[str, Any], reference: Mapping[str, Any]) -> Differences:
    """What two flat configurations differ in."""
    keys = dict.fromkeys((*reference, *ours))
    return {key: (ours.get(key), reference.get(key)) for key in keys if ours.get(key) != reference.get(key)}


def _told(ours: Mapping[str, Any], reference: Mapping[str, Any]) -> Differences:
    """What an arm has otherwise than the reference; see ``ResolvedArm``."""
    found = differences(ours, reference)
    if ours["trainer"] == reference["trainer"]:
        return found
    return {key: pair for key, pair in found.items() if key in ours and key in reference}


def _base(name: str, path: Path) -> Path:
    beside = path.parent / name
    if beside.suffix in (".yaml", ".yml") and beside.is_file():
        return beside
    try:
        return find_config(name)
    except DataError as error:
        raise DataError(f"{path}: base: {error}") from None


def _changed(config: TrainingConfig, changes: Changes, place: str) -> TrainingConfig:
    """A configuration with some values replaced; each change must have an effect."""
    document = config.model_dump(mode="json")
    known = config.resolved()
    for key, value in changes.items():
        *above, last = _steps(known, key, place)
        inner = document
        for step in above:
            inner = inner.setdefault(step, {})
        inner[last] = copy.deepcopy(value)
    changed = validated(type(config), document, Path(place))
    before = flat(known)
    try:
        moved = differences(flat(changed.resolved()), before)
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
    for key in changes:
        if not any(one == key or one.startswith(f"{key}.") for one in moved):
            raise DataError(f"{place}: {key}: is {_short(before, key)} already: this change has no effect")
    return changed


def _steps(known: Mapping[str, Any], key: str, place: str) -> list[str]:
    """Keys that lead to a value, of which one may itself have a dot in it, such as ``optimizer.rates.bert.``.

    Raises:
        DataError: the configuration does not have it.
    """
    inner: Any = known
    steps: list[str] = []
    rest = key
    while rest:
        fitting = [one for one in _keys(inner) if rest == one or rest.startswith(f"{one}.")]
        if not fitting:
            has = f"'{'.'.join(steps)}' has" if steps else "it has"
            what = ", ".join(_keys(inner)) or "no keys"
            raise DataError(printable(f"{place}: {key}: no such key in the training configuration: {has} {what}"))
        steps.append(max(fitting, key=len))
        inner, rest = inner[steps[-1]], rest[len(steps[-1]) + 1 :]
    return steps


def _keys(value: Any) -> list[str]:
    return list(map(str, value)) if isinstance(value, Mapping) else []


def _short(values: Mapping[str, Any], key: str) -> str:
    return printable(str(values[key]))[:100] if key in values else "so"
