"""Score prediction files under a named protocol."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.scoring.extra_metrics import EXTRAS, Share, Subject, wanted_extras
from ovd_bench.benchmarks.scoring.score_notes import check_fit, remarks
from ovd_bench.benchmarks.scoring.vocabulary_tables import VocabularyTables
from ovd_bench.benchmarks.store.prediction_source import Source, same_images
from ovd_bench.metrics.bootstrap import bootstrap, bootstrap_ratio, resample_weights
from ovd_bench.metrics.comparison import Comparison, compare
from ovd_bench.metrics.estimate import ClassValues, Estimate
from ovd_bench.metrics.evaluate import Evaluation, evaluate
from ovd_bench.metrics.protocol import PROTOCOLS
from ovd_bench.metrics.types import DataError, GroundTruth, Predictions
from ovd_bench.metrics.unseen import mean_over

if TYPE_CHECKING:
    from ovd_bench.benchmarks.store.schema import ProtocolInfo
    from ovd_bench.metrics.grounding import GroundingResult

#: Protocols of phrase grounding, whose files are of another kind.
GROUNDING = ("grounding-recall", "refcoco")


@dataclass(frozen=True)
class ScoreRequest:
    """What to score and how.

    Attributes:
        predictions: a prediction file, a run folder or its ``result.json``.
        annotations: annotation file.
        protocol: name of a protocol.
        extras: further statistics, see ``benchmarks.scoring.extra_metrics``.
        resamples: bootstrap resamples, 0 = none.
        seed: of the bootstrap.
        threads: 0 = all processors this process may use.
        judge: similarity matrix file for ``srp``.
        tables: vocabulary tables file.
        threshold: score threshold of the presence decision.
        map_phrases: rung up to which phrases are mapped to classes before scoring (``metrics.lexicon.RUNGS``); empty =
            category ids count.
        region_judge: open_clip model folder for ``region``.
        images: folder of the images for ``region``.
    """

    predictions: Path
    annotations: Path
    protocol: str
    extras: list[str] = field(default_factory=list)
    resamples: int = 0
    seed: int = 0
    threads: int = 0
    judge: Path | None = None
    tables: Path | None = None
    threshold: float = 0.5
    map_phrases: str = ""
    region_judge: Path | None = None
    images: Path | None = None

    def missing(self, predictions: Predictions) -> set[str]:
        """Extra statistics for which something was not given."""
        have = {
            "phrases": predictions.phrase is not None,
            "srp": self.judge is not None,
            "region": self.region_judge is not None and self.images is not None,
        }
        return {name for name, given in have.items() if not given}


@dataclass(frozen=True)
class Score:
    """Result of a ``ScoreRequest``.

    Attributes:
        request: what was asked.
        gt: ground truth.
        evaluation: AP and what it rests on.
        metrics: all statistics, flat; official ones first.
        estimates: per statistic that was resampled.
        notes: one-line remarks.
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
        """Standard deviation of each statistic that has one over data sets of as many images."""
        return {name: sd for name, estimate in self.estimates.items() if (sd := estimate.sd) is not None}

    @property
    def ci95(self) -> dict[str, tuple[float, float]]:
        """95 % interval of each statistic that has one; see ``metrics.estimate``."""
        return {name: ci95 for name, estimate in self.estimates.items() if (ci95 := estimate.ci95) is not None}

    @property
    def half_width(self) -> dict[str, float]:
        """Half of ``ci95``."""
        return {name: half for name, estimate in self.estimates.items() if (half := estimate.half_width) is not None}

    def as_json(self) -> dict[str, Any]:
        """One JSON object; undefined numbers are null, floats are not rounded."""
        return {
            "protocol": self.request.protocol,
            "rules": dataclasses.asdict(self.evaluation.protocol),
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
            "predictions": _file(self.request.predictions),
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
    """Read, score and, if asked, bootstrap.

    Raises:
        DataError: bad input; one line.
    """
    clock = _Clock()
    if request.protocol not in PROTOCOLS:
        raise DataError(f"unknown protocol '{request.protocol}': choose from {', '.join([*PROTOCOLS, *GROUNDING])}")
    protocol = PROTOCOLS[request.protocol]
    wanted_extras(request.extras, set())  # refuse a misspelt name before reading gigabytes
    tables = VocabularyTables.read(request.tables)
    source = Source.of(request.predictions)
    with clock("read annotations"):
        gt, coverage = source.covered(read_ground_truth(request.annotations), request.annotations)
        check_fit(gt, protocol)
    with clock("read predictions"):
        predictions = spoken = source.read(threads=request.threads)
    mapping_notes: list[str] = []
    if request.map_phrases:
        with clock("map phrases"):
            predictions, mapping_notes = _mapped(spoken, gt, request, tables)
    extras = wanted_extras(request.extras, request.missing(spoken))
    keep_records = request.resamples > 0 or "pool" in extras
    with clock("match and summarize"):
        evaluation = _evaluate(request.predictions, gt, predictions, request, keep_records=keep_records)
    metrics = dict(evaluation.metrics)
    notes = coverage + mapping_notes + remarks(gt, predictions, evaluation)
    subject = Subject(
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
    )
    shares: dict[str, Share] = {}
    class_means: dict[str, npt.NDArray[np.intp]] = {}
    context: dict[str, dict[str, str]] = {}
    for name in extras:
        with clock(name):
            try:
                extra = EXTRAS[name](subject)
            except DataError as error:
                raise DataError(f"--metric {name}: {request.predictions}: {error}") from None
        metrics |= extra.metrics
        notes += extra.notes
        shares |= extra.shares
        class_means |= extra.class_means
        if extra.context:
            context[name] = extra.context
    estimates: dict[str, Estimate] = {}
    if request.resamples:
        with clock(f"bootstrap x {request.resamples:,}"):
            estimates = _resampled(request, gt, evaluation, metrics, shares, class_means)
    return Score(request, gt, evaluation, metrics, estimates, notes, context, clock.seconds)


def _resampled(
    request: ScoreRequest,
    gt: GroundTruth,
    evaluation: Evaluation,
    metrics: dict[str, float | None],
    shares: dict[str, Share],
    class_means: dict[str, npt.NDArray[np.intp]],
) -> dict[str, Estimate]:
    """Every statistic that can be resampled and is defined; ``Extra`` describes the last two arguments."""
    weights = resample_weights(gt.num_images, request.resamples, request.seed)
    resampled = bootstrap(gt, evaluation, weights, per_class=bool(class_means))
    estimates = resampled.estimates
    for name, (numerator, denominator) in shares.items():
        if (value := metrics[name]) is not None:
            counted = ClassValues.alone(value, int(np.count_nonzero(denominator)))
            estimates[name] = Estimate(value, bootstrap_ratio(weights, numerator, denominator), counted)
    for name, classes in class_means.items():
        if (value := metrics[name]) is not None:
            assert resampled.per_class_ap is not None
            means = estimates["AP"].classes.only(classes)
            estimates[name] = Estimate(value, mean_over(resampled.per_class_ap, classes), means)
    return estimates


def _mapped(
    spoken: Predictions, gt: GroundTruth, request: ScoreRequest, tables: VocabularyTables
) -> tuple[Predictions, list[str]]:
    """Predictions whose classes are what their phrases name, and a remark on what was not understood."""
    from ovd_bench.metrics.lexicon import RUNGS, Lexicon
    from ovd_bench.metrics.phrases import map_phrases, to_predictions

    if request.map_phrases not in RUNGS:
        raise DataError(f"--map-phrases {request.map_phrases}: choose from {', '.join(RUNGS)}")
    if spoken.phrase is None:
        raise DataError(f"{request.predictions}: --map-phrases needs predictions with phrases")
    mapping = map_phrases(spoken.phrase, Lexicon.from_categories(gt.categories, tables.hypernyms))
    mapped = to_predictions(spoken, mapping, gt.categories, request.map_phrases)
    return mapped, [f"{len(spoken) - len(mapped):,} detections whose phrase names no class: dropped"]


def compare_files(
    a: Path, b: Path, annotations: Path, protocol: str, *, resamples: int, seed: int, threads: int
) -> tuple[GroundTruth, Comparison, list[str]]:
    """Paired comparison of two prediction files: ground truth, result, remarks.

    Raises:
        DataError: bad input; one line.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"unknown protocol '{protocol}': choose from {', '.join(PROTOCOLS)}")
    sources = (Source.of(a), Source.of(b))
    same_images(*sources)
    everything = read_ground_truth(annotations)
    check_fit(everything, PROTOCOLS[protocol])
    runs, notes = [], [*_about_protocols(*sources), *_about_pixels(*sources)]
    for name, source in zip("AB", sources, strict=True):
        gt, coverage = source.covered(everything, annotations)
        predictions = source.read(threads=threads)
        request = ScoreRequest(source.path, annotations, protocol, threads=threads)
        run = _evaluate(source.path, gt, predictions, request, keep_records=True)
        runs.append(run)
        notes += [f"{name}: {line}" for line in coverage + remarks(gt, predictions, run)]
    return gt, compare(gt, runs[0], runs[1], resamples=resamples, seed=seed), notes


def _about_protocols(a: Source, b: Source) -> list[str]:
    """What sets two runs apart besides the detector."""
    if a.manifest is None or b.manifest is None:
        return []
    protocols = (a.manifest.protocol, b.manifest.protocol)
    if protocols[0].sha256 == protocols[1].sha256:
        return []
    ours, theirs = map(_facts, protocols)
    apart = ", ".join(f"{name} {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name])
    return [f"warning: A and B were made under different protocols: {apart or 'their prompt plans'}"]


def _facts(protocol: ProtocolInfo) -> dict[str, object]:
    """A protocol in short words, version by version; None where it was made before that was kept."""
    hashes = {**(protocol.lookups or {}), "class names": protocol.tables}
    return (
        protocol.model_dump(exclude={"sha256", "plan", "versions", "lookups", "tables", "judge"})
        | {"plan": protocol.plan.name, "judge": protocol.judge and protocol.judge.name}
        | {f"version of {name}": (protocol.versions or {}).get(name) for name in ("cleaning", "selection", "scorer")}
        | {f"table {name}": (hashes.get(name) or "")[:8] or None for name in ("closed-set", "lexicon", "class names")}
    )


def _about_pixels(a: Source, b: Source) -> list[str]:
    """Whether two runs saw the same images."""
    if a.manifest is None or b.manifest is None:
        return []
    from ovd_bench.benchmarks.store.manifest import pixels_of, read_records

    ours = pixels_of(read_records(a.path, a.manifest))
    theirs = pixels_of(read_records(b.path, b.manifest))
    if ours is None or theirs is None:
        names = " and ".join(name for name, one in (("A", ours), ("B", theirs)) if one is None)
        return [f"{names}: made before pixels were hashed; whether both saw the same is not known"]
    shared = ours.keys() & theirs.keys()
    if not (other := sum(ours[image] != theirs[image] for image in shared)):
        return []
    return [
        f"warning: A and B were made from different pixels in {other:,} of {len(shared):,} images: "
        "they were encoded, resized or decoded otherwise"
    ]


def _evaluate(
    path: Path, gt: GroundTruth, predictions: Predictions, request: ScoreRequest, *, keep_records: bool
) -> Evaluation:
    protocol, threads = PROTOCOLS[request.protocol], request.threads or None
    try:
        return evaluate(gt, predictions, protocol, keep_records=keep_records, threads=threads)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def comparison_json(
    comparison: Comparison, protocol: str, files: tuple[Path, Path], notes: list[str]
) -> dict[str, Any]:
    """One JSON object of a comparison; undefined numbers are null."""
    classes = comparison.classes
    return {
        "protocol": protocol,
        "a": _file(files[0]),
        "b": _file(files[1]),
        "bootstrap": {"resamples": comparison.resamples, "seed": comparison.seed},
        "differences": {name: dataclasses.asdict(value) for name, value in comparison.differences.items()},
        "classes": {name: getattr(classes, name) for name in ("wins", "losses", "ties", "sure_wins", "sure_losses")},
        "notes": notes,
    }


def _file(predictions: Path) -> dict[str, str]:
    return {"file": str(predictions), "sha256": Source.of(predictions).sha256}


@dataclass(frozen=True)
class GroundingScore:
    """Phrase grounding result with its protocol and files."""

    protocol: str
    predictions: Path
    annotations: Path
    result: GroundingResult

    def as_json(self) -> dict[str, Any]:
        """One JSON object; undefined numbers are null."""
        return {
            "protocol": self.protocol,
            "metrics": self.result.metrics,
            "phrases": {"all": len(self.result.phrase_ids), "scored": int(self.result.scored.sum())},
            "annotations": {"file": str(self.annotations), "sha256": file_sha256(self.annotations)},
            "predictions": {"file": str(self.predictions), "sha256": file_sha256(self.predictions)},
            "notes": list(self.result.notes),
        }


def score_grounding(predictions: Path, annotations: Path, protocol: str) -> GroundingScore:
    """Recall@k of phrases (``grounding-recall``) or accuracy of referring expressions (``refcoco``).

    Annotations named ``.json`` are MDETR's documents, others the suite's own JSON Lines, see
    ``benchmarks.data.files.grounding``.

    Raises:
        DataError: bad input; one line.
    """
    from ovd_bench.benchmarks.data.files.grounding import (
        read_mdetr_expressions,
        read_mdetr_phrases,
        read_predictions,
        read_truth,
    )
    from ovd_bench.metrics.grounding import evaluate_grounding

    if annotations.suffix.lower() != ".json":
        read = read_truth
    else:
        read = read_mdetr_expressions if protocol == "refcoco" else read_mdetr_phrases
    result = evaluate_grounding(read(annotations), read_predictions(predictions))
    return GroundingScore(protocol, predictions, annotations, result)
