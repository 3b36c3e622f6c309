"""Score prediction files under a named protocol."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.files.queries import is_query_file, read_queries
from ovd_bench.benchmarks.data.match import TextMatch
from ovd_bench.benchmarks.data.text import unknown_name
from ovd_bench.benchmarks.scoring.extra_metrics import EXTRA_METRICS, MetricInput, Share, wanted_metrics
from ovd_bench.benchmarks.scoring.grounding import GROUNDING
from ovd_bench.benchmarks.scoring.score_notes import check_fit, score_notes
from ovd_bench.benchmarks.scoring.vocabulary_tables import VocabularyTables
from ovd_bench.benchmarks.store.prediction_source import Source
from ovd_bench.metrics.bootstrap import bootstrap, bootstrap_ratio, resample_weights
from ovd_bench.metrics.departure import is_protocol, protocol_named
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import Evaluation, evaluate
from ovd_bench.metrics.intervals import ClassValues, Estimate
from ovd_bench.metrics.protocol import PROTOCOLS
from ovd_bench.metrics.query_figures import Resampled
from ovd_bench.metrics.types import GroundTruth, Predictions
from ovd_bench.metrics.unseen import mean_over


@dataclass(frozen=True)
class ScoreRequest:
    """Request of a score.

    Attributes:
        predictions: a prediction file, a run folder or its ``result.json``.
        annotations: annotation file.
        protocol: name of a protocol.
        extra_metrics: further statistics, see ``benchmarks.scoring.extra_metrics``.
        resamples: bootstrap resamples, 0 = none.
        seed: of the bootstrap.
        threads: 0 = all processors this process may use.
        judge: similarity matrix file for ``srp``.
        tables: vocabulary tables file.
        threshold: score threshold of the presence decision.
        map_phrases: last rung of the mapping of phrases to classes before scoring (``metrics.lexicon.RUNGS``); empty =
            category ids are used.
        region_judge: open_clip model folder for ``region``.
        images: folder of the images for ``region``.
        match: what image ids that are texts mean, see ``benchmarks.data.image_names``.
    """

    predictions: Path
    annotations: Path
    protocol: str
    extra_metrics: list[str] = field(default_factory=list)
    resamples: int = 0
    seed: int = 0
    threads: int = 0
    judge: Path | None = None
    tables: Path | None = None
    threshold: float = 0.5
    map_phrases: str = ""
    region_judge: Path | None = None
    images: Path | None = None
    match: TextMatch = "id"

    def missing(self, predictions: Predictions) -> set[str]:
        """Extra statistics with missing input."""
        have = {
            "phrases": predictions.phrase is not None,
            "srp": self.judge is not None,
            "region": self.region_judge is not None and self.images is not None,
            "queries": is_query_file(self.annotations),
        }
        return {name for name, given in have.items() if not given}


@dataclass(frozen=True)
class Score:
    """Result of a ``ScoreRequest``.

    Attributes:
        request: the request.
        gt: ground truth.
        evaluation: AP and its basis.
        metrics: all statistics, flat; official ones first.
        estimates: of each resampled statistic.
        notes: one-line notes.
        context: per extra statistic, what its numbers depend on besides the protocol.
        seconds: wall time per stage.
    """

    request: ScoreRequest
    gt: GroundTruth
    evaluation: Evaluation
    metrics: dict[str, float | None]
    estimates: dict[str, Estimate]
    notes: list[str]
    context: dict[str, dict[str, str]]
    seconds: dict[str, float]

    @property
    def sd(self) -> dict[str, float]:
        """Standard deviation of each statistic over data sets of this many images, if defined."""
        return {name: sd for name, estimate in self.estimates.items() if (sd := estimate.sd) is not None}

    @property
    def ci95(self) -> dict[str, tuple[float, float]]:
        """95 % interval of each statistic, if defined; see ``metrics.intervals``."""
        return {name: ci95 for name, estimate in self.estimates.items() if (ci95 := estimate.ci95) is not None}

    @property
    def half_width(self) -> dict[str, float]:
        """Half of ``ci95``."""
        return {name: half for name, estimate in self.estimates.items() if (half := estimate.half_width) is not None}

    def as_json(self) -> dict[str, Any]:
        """One JSON object; undefined numbers are null, floats are not rounded."""
        return {
            "protocol": self.request.protocol,
            "rules": self.evaluation.protocol.as_dict(),
            "metrics": self.metrics,
            "ci95": self.ci95,
            "sd": self.sd,
            "bootstrap": {"resamples": self.request.resamples, "seed": self.request.seed},
            "counts": dataclasses.asdict(self.evaluation.matches.counts),
            "annotations": {
                "file": str(self.request.annotations),
                "sha256": file_sha256(self.request.annotations),
                "images": self.gt.num_images,
                "classes": self.gt.num_classes,
                "boxes": len(self.gt.ann_ids),
            },
            "predictions": described_file(self.request.predictions),
            "context": self.context,
            "notes": self.notes,
        }


class _Clock:
    """Wall time per named stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start


def score(request: ScoreRequest) -> Score:
    """Read, score and, if requested, bootstrap.

    Raises:
        DataError: bad input; one line.
    """
    clock = _Clock()
    if not is_protocol(request.protocol):
        known = [*PROTOCOLS, *GROUNDING]
        raise DataError(unknown_name(f"unknown protocol '{request.protocol}'", request.protocol, known))
    protocol = protocol_named(request.protocol)
    wanted_metrics(request.extra_metrics, set())  # refuse a wrong name before reading gigabytes
    tables = VocabularyTables.read(request.tables)
    source = Source.of(request.predictions)
    with clock("read annotations"):
        queries = read_queries(request.annotations).queries if is_query_file(request.annotations) else None
        everything = read_ground_truth(request.annotations) if queries is None else queries.truth
        gt, coverage = source.covered(everything, request.annotations)
        if queries is not None and gt is not everything:
            queries = queries.of_images(gt.image_ids)
            gt = queries.truth
        check_fit(gt, protocol)
    with clock("read predictions"):
        predictions = spoken = source.read(gt, threads=request.threads, match=request.match)
    mapping_notes: list[str] = []
    if request.map_phrases:
        with clock("map phrases"):
            predictions, mapping_notes = _mapped(spoken, gt, request, tables)
    extras = wanted_metrics(request.extra_metrics, request.missing(spoken))
    keep_records = request.resamples > 0 or bool({"pool", "queries"} & set(extras))
    with clock("match and summarize"):
        evaluation = evaluate_file(
            request.predictions,
            gt,
            predictions,
            request.protocol,
            threads=request.threads,
            keep_records=keep_records,
        )
    metrics = dict(evaluation.metrics)
    notes = [*coverage, *spoken.notes, *mapping_notes, *score_notes(gt, predictions, evaluation)]
    subject = MetricInput(
        gt,
        predictions,
        spoken,
        protocol,
        evaluation,
        tables,
        request.judge,
        request.region_judge,
        request.images,
        request.threshold,
        queries,
    )
    shares: dict[str, Share] = {}
    others: dict[str, tuple[Resampled, int]] = {}
    class_means: dict[str, npt.NDArray[np.intp]] = {}
    context: dict[str, dict[str, str]] = {}
    for name in extras:
        with clock(name):
            try:
                extra = EXTRA_METRICS[name](subject)
            except DataError as error:
                raise DataError(f"--metric {name}: {request.predictions}: {error}") from None
        metrics |= extra.metrics
        notes += extra.notes
        shares |= extra.shares
        others |= extra.resampled
        class_means |= extra.class_means
        if extra.context:
            context[name] = extra.context
    estimates: dict[str, Estimate] = {}
    if request.resamples:
        with clock(f"bootstrap x {request.resamples:,}"):
            estimates = _resampled(request, gt, evaluation, metrics, shares, others, class_means)
    return Score(request, gt, evaluation, metrics, estimates, notes, context, clock.seconds)


def _resampled(
    request: ScoreRequest,
    gt: GroundTruth,
    evaluation: Evaluation,
    metrics: dict[str, float | None],
    shares: dict[str, Share],
    others: dict[str, tuple[Resampled, int]],
    class_means: dict[str, npt.NDArray[np.intp]],
) -> dict[str, Estimate]:
    """Every statistic that can be resampled and is defined; ``MetricResult`` describes the last three arguments."""
    weights = resample_weights(gt.num_images, request.resamples, request.seed)
    resampled = bootstrap(gt, evaluation, weights, per_class=bool(class_means))
    estimates = resampled.estimates
    for name, (numerator, denominator) in shares.items():
        if (value := metrics[name]) is not None:
            counted = ClassValues.alone(value, int(np.count_nonzero(denominator)))
            estimates[name] = Estimate(value, bootstrap_ratio(weights, numerator, denominator), counted)
    for name, (resampled_figure, images) in others.items():
        if (value := metrics[name]) is not None:
            estimates[name] = Estimate(value, resampled_figure(weights), ClassValues.alone(value, images))
    for name, classes in class_means.items():
        if (value := metrics[name]) is not None:
            assert resampled.per_class_ap is not None
            means = estimates["AP"].classes.only(classes)
            estimates[name] = Estimate(value, mean_over(resampled.per_class_ap, classes), means)
    return estimates


def _mapped(
    spoken: Predictions, gt: GroundTruth, request: ScoreRequest, tables: VocabularyTables
) -> tuple[Predictions, list[str]]:
    """Predictions with the classes that their phrases name, and a note on phrases without a class."""
    from ovd_bench.metrics.lexicon import RUNGS, Lexicon
    from ovd_bench.metrics.phrases import map_phrases, to_predictions

    if request.map_phrases not in RUNGS:
        raise DataError(f"--map-phrases {request.map_phrases}: choose from {', '.join(RUNGS)}")
    if spoken.phrase is None:
        raise DataError(f"{request.predictions}: --map-phrases needs predictions with phrases")
    mapping = map_phrases(spoken.phrase, Lexicon.from_categories(gt.categories, tables.hypernyms))
    mapped = to_predictions(spoken, mapping, gt.categories, request.map_phrases)
    return mapped, [f"{len(spoken) - len(mapped):,} detections whose phrase names no class: dropped"]


def evaluate_file(
    path: Path, gt: GroundTruth, predictions: Predictions, protocol: str, *, threads: int, keep_records: bool
) -> Evaluation:
    """Evaluate the predictions of a file; see ``metrics.evaluate.evaluate``.

    Raises:
        DataError: predictions do not fit the ground truth; the message names the file.
    """
    try:
        return evaluate(gt, predictions, protocol_named(protocol), keep_records=keep_records, threads=threads or None)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def described_file(predictions: Path) -> dict[str, str]:
    """Name and SHA-256 of a prediction file, for JSON documents."""
    return {"file": str(predictions), "sha256": Source.of(predictions).sha256}
