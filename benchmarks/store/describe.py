"""Detector and protocol as stored in results."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.files.documents import first_problem
from ovd_bench.benchmarks.store.protocols import RunProtocol, lookups, versions
from ovd_bench.benchmarks.store.schema import DetectorInfo, JudgeInfo, PlanInfo, ProtocolInfo, TrainingDataInfo
from ovd_bench.detectors.card import DetectorCard, TrainingData
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import DetectorError, Vocabulary
from ovd_bench.metrics.departure import is_protocol
from ovd_bench.metrics.errors import DataError


def source_sha256(detector: str) -> str | None:
    """Hash of the Python file of a detector given as ``path.py:Name``; None for a name."""
    file, colon, _ = detector.rpartition(":")
    return file_sha256(Path(file)) if colon and file.endswith(".py") else None


def detector_info(card: DetectorCard, detector: str) -> DetectorInfo:
    """The card of a loaded detector. One given as a file without weights is identified by its source.

    Raises:
        DetectorError: the card lacks required information, or its name is not a legal folder name.
    """
    sha256 = card.weights_sha256 or source_sha256(detector)
    if not sha256:
        raise DetectorError(
            f"detector '{card.name}': its card has no weights_sha256 after loading; its loader must set it"
        )
    data = card.training_data
    try:
        return DetectorInfo(
            name=card.name,
            family=card.family,
            framework=card.framework,
            weights=card.weights,
            weights_sha256=sha256,
            parameters=card.parameters,
            backbone=card.backbone,
            text_encoder=card.text_encoder,
            training_data=None if data is None else [_training_info(one) for one in data],
            licence=card.licence,
            url=card.url,
            capabilities=list(card.capabilities),
            notes=list(card.notes),
        )
    except ValidationError as error:
        raise DetectorError(f"detector '{card.name}': card: {first_problem(error)}") from None


def card_of(info: DetectorInfo) -> DetectorCard:
    """The card stored in a result; its loader is empty."""
    fields = info.model_dump(exclude={"training_data"})
    data = info.training_data
    return DetectorCard(
        **fields | {"capabilities": tuple(info.capabilities), "notes": tuple(info.notes), "loader": ""},
        training_data=None if data is None else tuple(_training_data(one) for one in data),
    )


def protocol_info(protocol: RunProtocol, vocabulary: Vocabulary) -> ProtocolInfo:
    """The protocol, with the collisions of names under its prompt plan."""
    plan = protocol.plan
    # each question is asked alone, and captions that share a phrase are different questions
    collisions = {} if protocol.vocabulary == "queries" else plan.collisions(plan.spoken(vocabulary))
    lists = {"templates": list(plan.templates), "distractors": list(plan.distractors)}
    fields = asdict(plan) | lists | {"sha256": plan.sha256, "collisions": collisions}
    return ProtocolInfo(
        name=protocol.ap,
        sha256=protocol.sha256,
        plan=PlanInfo(**fields),
        vocabulary=protocol.vocabulary,
        image_size=protocol.image_size,
        top_k=protocol.top_k,
        chunk_top_k=protocol.chunk_top_k,
        versions=versions(),
        lookups=lookups(),
        tables=protocol.tables,
        reading=protocol.reading,
    )


def plan_fits(info: ProtocolInfo) -> bool:
    """Whether the fields of a stored protocol give its hashes.

    Hashes with versions other than today's are made by rules that are not known here: then only the plan is checked.
    """
    plan = info.plan
    try:
        fields = plan.model_dump(exclude={"sha256", "collisions"})
        made = PromptPlan(**fields | {"templates": tuple(plan.templates), "distractors": tuple(plan.distractors)})
    except DetectorError:
        return False
    if made.sha256 != plan.sha256:
        return False
    if (info.versions, info.lookups) != (versions(), lookups()) or not is_protocol(info.name) or info.judge is not None:
        return True
    protocol = RunProtocol(
        info.name, made, info.vocabulary, info.image_size, info.top_k, info.chunk_top_k, info.tables, info.reading
    )
    return protocol.sha256 == info.sha256


def scored_under(made_under: ProtocolInfo, tables: str | None, judge: JudgeInfo | None) -> ProtocolInfo:
    """The protocol of a result: that of its predictions, with the tables and judge of the score.

    Tables other than the benchmark's own, and a judge, make it another protocol, because they add numbers to the row.

    Args:
        made_under: protocol that the predictions were made under.
        tables: sha256 of the tables of class names that the score used.
        judge: judge that the score used.

    Raises:
        DataError: scorer or lexicon differ from those in the protocol of the predictions.
    """
    now: dict[str, int | str] = {**versions(), **lookups()}
    then: dict[str, int | str] = {**(made_under.versions or {}), **(made_under.lookups or {})}
    if changed := [name for name in ("scorer", "lexicon") if then.get(name, now[name]) != now[name]]:
        name = changed[0]
        raise DataError(
            f"{name} is now {_short(now[name])}, but the run was made with {name} {_short(then[name])}: "
            "repeat 'bench run', which makes a separate run"
        )
    if judge is None and (made_under.versions is None or tables == made_under.tables):
        return made_under
    content = [made_under.sha256, tables, judge and judge.model_dump()]
    sha256 = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return made_under.model_copy(update={"sha256": sha256, "tables": tables, "judge": judge})


def _short(value: int | str) -> str:
    return value[:8] if isinstance(value, str) else str(value)


def _training_info(data: TrainingData) -> TrainingDataInfo:
    return TrainingDataInfo(**asdict(data) | {"images": list(data.images)})


def _training_data(info: TrainingDataInfo) -> TrainingData:
    return TrainingData(**info.model_dump() | {"images": tuple(info.images)})
