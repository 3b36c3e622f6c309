"""Statistics beyond AP that ``score`` computes on request, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.images import image_paths
from ovd_bench.benchmarks.data.text import unknown_name
from ovd_bench.benchmarks.scoring.vocabulary_tables import VocabularyTables
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import Evaluation
from ovd_bench.metrics.protocol import Protocol
from ovd_bench.metrics.queries import Queries
from ovd_bench.metrics.query_figures import Resampled
from ovd_bench.metrics.types import GroundTruth, Predictions

Numbers = dict[str, float | None]
Share = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class MetricInput:
    """Input of an extra statistic."""

    gt: GroundTruth
    predictions: Predictions
    spoken: Predictions  # as in the file, if phrases were mapped to classes
    protocol: Protocol
    evaluation: Evaluation
    tables: VocabularyTables
    judge: Path | None
    region_judge: Path | None
    images: Path | None
    threshold: float
    queries: Queries | None = None  # the ground truth's own, if it is a file of queries


@dataclass(frozen=True)
class MetricResult:
    """Numbers of one family.

    Attributes:
        metrics: flat.
        notes: one-line notes on them.
        shares: for statistics that are a sum over images divided by a sum over images, the terms per image, for the
            bootstrap.
        resampled: further statistics on resamples of the images, each with the number of images that it is computed
            over.
        class_means: for statistics that are a mean of AP over some classes, positions of these classes.
        context: what the numbers depend on; numbers are comparable only if it is equal.
    """

    metrics: Numbers
    notes: tuple[str, ...] = ()
    shares: dict[str, Share] = field(default_factory=dict)
    resampled: dict[str, tuple[Resampled, int]] = field(default_factory=dict)
    class_means: dict[str, npt.NDArray[np.intp]] = field(default_factory=dict)
    context: dict[str, str] = field(default_factory=dict)


def _pool(subject: MetricInput) -> MetricResult:
    from ovd_bench.metrics.pooled import pooled_ap

    return MetricResult(
        {f"pool/{name}": value for name, value in pooled_ap(subject.evaluation, subject.predictions).items()}
    )


def _ladder(subject: MetricInput) -> MetricResult:
    from ovd_bench.metrics.ladder import granularity_ladder

    hierarchy = subject.tables.hierarchy(subject.gt.categories)
    result = granularity_ladder(subject.gt, subject.predictions, subject.protocol, hierarchy)
    missing = [name for name, rung in result.rungs.items() if rung is None]
    note = f"ladder: no information for the rungs {', '.join(missing)}; give a table with --tables"
    return MetricResult(result.metrics, (note,) if missing else ())


#: What the user is told where the input of a statistic is missing.
NEEDS = {
    "srp": "--metric srp needs --judge FILE: build one with 'bench judge --annotations GT -o FILE'",
    "region": "--metric region needs --images FOLDER and --region-judge MODEL_FOLDER",
}


def _srp(subject: MetricInput) -> MetricResult:
    from ovd_bench.benchmarks.scoring.text_judge import load_similarity
    from ovd_bench.metrics.semantic import semantic_r_precision

    if subject.judge is None:
        raise DataError(NEEDS["srp"])
    similarity = load_similarity(subject.judge)
    result = semantic_r_precision(subject.gt, subject.predictions, similarity)
    context = {
        "scope": result.scope,
        "judge": similarity.judge,
        "template": similarity.template,
        "weights_sha256": similarity.weights_sha256,
        "content_sha256": result.similarity_sha256,
    }
    about = f"srp: {result.scope}, judge {similarity.judge}, best generic label {result.generic_label!r}"
    shares = {f"srp/{name}": (values, result.denominator) for name, values in result.numerators.items()}
    notes = (about, *(f"srp: {note}" for note in result.notes))
    return MetricResult(result.metrics, notes, shares, context=context)


def _region(subject: MetricInput) -> MetricResult:
    from ovd_bench.benchmarks.scoring.region_judge import embed_regions
    from ovd_bench.metrics.region_text import region_text_margin

    if subject.region_judge is None or subject.images is None:
        raise DataError(NEEDS["region"])
    files = image_paths(subject.gt)
    embeddings = embed_regions(subject.gt, files, subject.images, subject.region_judge)
    result = region_text_margin(subject.gt, subject.predictions, embeddings)
    about = f"region: {result.scope}, judge {embeddings.judge}, best generic label {result.generic_label!r}"
    unreadable = (f"region: image {image}: {reason}" for image, reason in embeddings.unreadable[:5])
    notes = (about, *unreadable, *(f"region: {note}" for note in result.notes))
    weights, template = embeddings.weights_sha256, embeddings.template
    context = {"scope": result.scope, "judge": embeddings.judge, "template": template, "weights_sha256": weights}
    return MetricResult(result.metrics, notes, context=context)


def _phrases(subject: MetricInput) -> MetricResult:
    from ovd_bench.metrics.lexicon import Lexicon
    from ovd_bench.metrics.phrases import lexical_alignment, phrase_overlap

    lexicon = Lexicon.from_categories(subject.gt.categories, subject.tables.hypernyms)
    alignment = lexical_alignment(subject.gt, subject.spoken, lexicon, subject.protocol)
    overlap = phrase_overlap(subject.gt, subject.spoken)
    unmapped = ", ".join(f"{text!r} x {count}" for text, count in alignment.mapping.unmapped_examples[:5])
    notes = (f"phrases: most frequent unmapped: {unmapped}",) if unmapped else ()
    return MetricResult(alignment.mapping.metrics | alignment.metrics | overlap.metrics, notes)


def _presence(subject: MetricInput) -> MetricResult:
    from ovd_bench.metrics.presence import presence

    siblings = subject.tables.siblings(subject.gt.categories)
    result = presence(subject.gt, subject.predictions, subject.protocol, siblings, score_threshold=subject.threshold)
    note = "presence: hard negatives need sibling classes: a supercategory field, or --tables"
    return MetricResult(result.metrics, (note,) if siblings is None else ())


def _errors(subject: MetricInput) -> MetricResult:
    from ovd_bench.metrics.decomposition import decompose

    return MetricResult(decompose(subject.gt, subject.predictions, subject.protocol).metrics)


def _calibration(subject: MetricInput) -> MetricResult:
    from ovd_bench.metrics.calibration import calibration

    scores = subject.predictions.score
    if len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
        return MetricResult({}, ("calibration: undefined, scores lie outside 0 … 1 and are no probabilities",))
    return MetricResult(calibration(subject.gt, subject.predictions, subject.protocol).metrics)


def _unseen(subject: MetricInput) -> MetricResult:
    from ovd_bench.metrics.unseen import unseen_ap, unseen_classes

    metrics = unseen_ap(subject.evaluation)
    note = "unseen: undefined, no class of the annotations has image_count 0"
    classes = unseen_classes(subject.evaluation)
    return MetricResult(
        metrics, () if len(classes) else (note,), class_means={"unseen/APu": classes} if len(classes) else {}
    )


def _queries(subject: MetricInput) -> MetricResult:
    from ovd_bench.metrics.query_ap import ap_by_kind
    from ovd_bench.metrics.query_figures import evaluate_queries

    if subject.queries is None:
        raise DataError("--metric queries needs a file of queries for the annotations")
    result = evaluate_queries(subject.queries, subject.predictions)
    by_kind = ap_by_kind(subject.queries, subject.evaluation, subject.predictions)
    notes = tuple(f"queries: {note}" for note in result.notes)
    return MetricResult(
        result.metrics | by_kind.metrics, notes, result.shares, result.resampled, class_means=by_kind.class_means
    )


EXTRA_METRICS: dict[str, Callable[[MetricInput], MetricResult]] = {
    "pool": _pool,
    "ladder": _ladder,
    "srp": _srp,
    "region": _region,
    "presence": _presence,
    "errors": _errors,
    "calibration": _calibration,
    "phrases": _phrases,
    "unseen": _unseen,
    "queries": _queries,
}


def wanted_metrics(names: list[str], missing: set[str]) -> list[str]:
    """Names in a fixed order from repeated, comma-separated options; ``all`` = all but the ``missing`` ones.

    Raises:
        DataError: an unknown name.
    """
    asked = {name.strip() for entry in names for name in entry.split(",") if name.strip()}
    if unknown := sorted(asked - {*EXTRA_METRICS, "all"}):
        known = [*EXTRA_METRICS, "all"]
        raise DataError(unknown_name(f"unknown metric '{unknown[0]}'", unknown[0], known))
    if "all" in asked:
        asked |= set(EXTRA_METRICS) - missing
    return [name for name in EXTRA_METRICS if name in asked]
