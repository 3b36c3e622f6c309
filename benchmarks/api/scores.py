"""Scores and comparisons of predictions, without any detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovd_bench.benchmarks.api.errors import check_scoring, file_errors
from ovd_bench.benchmarks.api.paths import StrPath, data_folder, optional_path
from ovd_bench.benchmarks.api.records import Records
from ovd_bench.benchmarks.api.runs import Run
from ovd_bench.metrics.errors import DataError

if TYPE_CHECKING:
    from ovd_bench.benchmarks.scoring.grounding import GroundingScore
    from ovd_bench.benchmarks.scoring.score import Score as FullScore
    from ovd_bench.metrics.comparison import Comparison as FullComparison
    from ovd_bench.metrics.comparison import Difference
    from ovd_bench.metrics.types import GroundTruth


@dataclass(frozen=True, repr=False)
class Score:
    """The statistics of one set of predictions.

    Attributes:
        protocol: by whose rules.
        metrics: all statistics by name, from 0 to 1 unless they are counts; None where undefined.
        ci95: 95 % interval (low, high) of each statistic that was resampled; docs/intervals.md says how it is made.
        sd: standard deviation of each of these over data sets of as many images.
        notes: remarks and warnings, one line each.
        full: what the suite itself works with.
    """

    protocol: str
    metrics: dict[str, float | None]
    ci95: dict[str, tuple[float, float]]
    sd: dict[str, float]
    notes: list[str]
    full: FullScore | GroundingScore

    def per_class(self) -> Records:
        """One row per class, as ``Run.per_class``.

        Raises:
            DataError: phrases were scored, not classes.
        """
        from ovd_bench.benchmarks.scoring.exports import PER_CLASS_COLUMNS, class_rows
        from ovd_bench.benchmarks.scoring.grounding import GroundingScore

        if isinstance(self.full, GroundingScore):
            raise DataError(f"protocol '{self.protocol}' scores phrases: there are no classes")
        rows = class_rows(self.full.gt, self.full.evaluation)
        return Records([dict(zip(PER_CLASS_COLUMNS, row, strict=True)) for row in rows])

    def to_dict(self) -> dict[str, Any]:
        """What ``bench score --json`` prints."""
        return self.full.as_json()

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name} {value if value is None else round(value, 4)}" for name, value in list(self.metrics.items())[:6]
        )
        return f"Score({self.protocol}: {shown}, …)"


@dataclass(frozen=True, repr=False)
class Comparison:
    """Run B against run A on the same images, by a paired bootstrap over the images.

    Attributes:
        protocol: by whose rules.
        a, b: where the predictions lie.
        differences: per statistic: ``a``, ``b``, ``delta`` (b - a), ``sd``, ``ci95`` and ``p_greater`` (the probability
            that B is ahead); each None where undefined.
        notes: remarks and warnings, one line each, such as that the runs were made under different protocols.
        full: what the suite itself works with.
        gt: ground truth of the images compared.
    """

    protocol: str
    a: Path
    b: Path
    differences: dict[str, Difference]
    notes: list[str]
    full: FullComparison
    gt: GroundTruth

    def per_class(self) -> Records:
        """One row per class: ``category_id``, ``name``, ``frequency``, ``AP_A``, ``AP_B``, ``delta``, ``p_greater``."""
        from ovd_bench.benchmarks.scoring.exports import DIFFERENCE_COLUMNS, difference_rows

        rows = difference_rows(self.gt, self.full)
        return Records([dict(zip(DIFFERENCE_COLUMNS, row, strict=True)) for row in rows])

    def to_dict(self) -> dict[str, Any]:
        """What ``bench compare --json`` prints."""
        from ovd_bench.benchmarks.scoring.compare import comparison_json

        return comparison_json(self.full, self.protocol, (self.a, self.b), self.notes)

    def __repr__(self) -> str:
        ap = self.differences.get("AP")
        if ap is None or ap.delta is None or ap.ci95 is None:
            return f"Comparison({self.protocol}: AP undefined)"
        low, high = (100 * value for value in ap.ci95)
        return f"Comparison({self.protocol}: AP of B - A {100 * ap.delta:+.2f}, 95 % from {low:+.2f} to {high:+.2f})"


@file_errors()
def score(
    predictions: StrPath | Run,
    annotations: StrPath | None = None,
    *,
    benchmark: str | None = None,
    protocol: str | None = None,
    metrics: Sequence[str] = (),
    bootstrap: int = 0,
    seed: int = 0,
    judge: StrPath | None = None,
    tables: StrPath | None = None,
    map_phrases: str = "",
    images: StrPath | None = None,
    region_judge: StrPath | None = None,
    threshold: float = 0.5,
    threads: int = 0,
    data_root: StrPath | None = None,
) -> Score:
    """Score predictions under a named protocol, as ``bench score``: the parameters are its options.

    Args:
        predictions: COCO or LVIS results JSON, Arrow or Parquet file; or a run, or its folder. Boxes are xywh in
            absolute pixels of the original image.
        annotations: LVIS or COCO annotation file; a run knows its own.
        benchmark: name of a data set, in place of ``annotations``.
        protocol: see ``list_protocols``; None = the run's, or ``lvis``.
        metrics: statistics beyond AP, see ``list_metrics``.
        bootstrap: resamples of the images for the intervals; 0 = no intervals.
        seed: of the bootstrap.
        judge: similarity matrix for ``srp``, made by ``bench judge``.
        tables: JSON tables of class names.
        map_phrases: score the class that a phrase names, up to ``exact``, ``lemma``, ``synonym``, ``hyponym`` or
            ``head``; empty = category ids count.
        images: folder of the images, for ``region``.
        region_judge: open_clip model folder, for ``region``.
        threshold: score threshold of the presence decision.
        threads: 0 = all processors. Results do not depend on it.
        data_root: folder of the data sets; None = the usual one (docs/data.md).

    Raises:
        DataError: a file cannot be read, files do not fit each other, or an option is not legal.
    """
    from ovd_bench.benchmarks.scoring.grounding import GROUNDING, score_grounding
    from ovd_bench.benchmarks.scoring.score import ScoreRequest
    from ovd_bench.benchmarks.scoring.score import score as score_request

    check_scoring(bootstrap, seed, threads)
    path = _path(predictions)
    if protocol in GROUNDING:
        if annotations is None:
            raise DataError(f"protocol '{protocol}' needs the annotations")
        found = score_grounding(path, Path(annotations), protocol)
        return Score(protocol, found.result.metrics, {}, {}, list(found.result.notes), found)
    truth, usual = _truth([path], annotations, benchmark, data_root)
    request = ScoreRequest(
        path,
        truth,
        protocol or usual,
        extra_metrics=list(metrics),
        resamples=bootstrap,
        seed=seed,
        threads=threads,
        judge=optional_path(judge),
        tables=optional_path(tables),
        threshold=threshold,
        map_phrases=map_phrases,
        region_judge=optional_path(region_judge),
        images=optional_path(images),
    )
    made = score_request(request)
    return Score(request.protocol, made.metrics, made.ci95, made.sd, made.notes, made)


@file_errors()
def compare(
    a: StrPath | Run,
    b: StrPath | Run,
    annotations: StrPath | None = None,
    *,
    benchmark: str | None = None,
    protocol: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    threads: int = 0,
    data_root: StrPath | None = None,
) -> Comparison:
    """Is B better than A, as ``bench compare``: the parameters are its options.

    Args:
        a: predictions of run A: a run, its folder, or a prediction file.
        b: predictions of run B.
        annotations: LVIS or COCO annotation file; a run knows its own.
        benchmark: name of a data set, in place of ``annotations``.
        protocol: ``lvis``, ``lvis-fixed`` or ``coco``; None = that of the first run, or ``lvis``.
        bootstrap: paired resamples of the images, 2 or more.
        seed: of the bootstrap.
        threads: 0 = all processors. Results do not depend on it.
        data_root: folder of the data sets; None = the usual one (docs/data.md).

    Raises:
        DataError: a file cannot be read, or the runs do not cover the same images.
    """
    from ovd_bench.benchmarks.scoring.compare import compare_files

    check_scoring(bootstrap, seed, threads, least=2)
    paths = (_path(a), _path(b))
    truth, usual = _truth(list(paths), annotations, benchmark, data_root)
    rules = protocol or usual
    gt, comparison, notes = compare_files(*paths, truth, rules, resamples=bootstrap, seed=seed, threads=threads)
    return Comparison(rules, *paths, comparison.differences, notes, comparison, gt)


def _path(predictions: StrPath | Run) -> Path:
    return predictions.folder if isinstance(predictions, Run) else Path(predictions)


def _truth(
    paths: list[Path], annotations: StrPath | None, benchmark: str | None, data_root: StrPath | None
) -> tuple[Path, str]:
    """Annotation file and usual kind of AP."""
    from ovd_bench.benchmarks.store.prediction_source import find_annotations

    found, usual = find_annotations(paths, optional_path(annotations), benchmark, data_folder(data_root))
    if found is None:
        raise DataError(f"{paths[0]}: a prediction file needs its annotations: give 'annotations' or 'benchmark'")
    return found, usual
