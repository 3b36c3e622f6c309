"""Times every statistic beyond AP: ``python -m ovd_bench.perf.extra_metrics``.

One synthetic LVIS-like data set (300 detections per image, 1,203 classes) with all inputs of the statistics: a
hierarchy of the class names, a similarity matrix, a phrase per detection. Files are read before the clock starts.
Phrases and matrix are made up, so only the times are meaningful.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer
from platformdirs import user_cache_path
from rich.console import Console

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.files.predictions import read_predictions
from ovd_bench.benchmarks.scoring.extra_metrics import EXTRA_METRICS, MetricInput
from ovd_bench.benchmarks.scoring.text_judge import save_similarity
from ovd_bench.benchmarks.scoring.vocabulary_tables import VocabularyTables
from ovd_bench.metrics.evaluate import evaluate
from ovd_bench.metrics.grounding import GroundingPredictions, GroundingTruth, evaluate_grounding
from ovd_bench.metrics.protocol import PROTOCOLS
from ovd_bench.metrics.queries import Queries, Query
from ovd_bench.metrics.semantic import SimilarityMatrix
from ovd_bench.metrics.types import Categories, GroundTruth, Predictions, Ragged
from ovd_bench.perf.datasets import synthetic_set
from ovd_bench.perf.machine import describe_machine
from ovd_bench.perf.peers import FORMS
from ovd_bench.perf.tables import MarkdownTable

_NEEDS_IMAGES = ("region",)


def _similarity(names: tuple[str, ...]) -> SimilarityMatrix:
    """Cosines of seeded random directions."""
    vectors = np.random.default_rng(0).normal(size=(len(names), 64))
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    cosine = np.einsum("id,jd->ij", vectors, vectors)
    np.fill_diagonal(cosine, 1.0)
    return SimilarityMatrix(names, cosine.astype(np.float32), "random directions", "0" * 64, "{}")


def _tables(categories: Categories, folder: Path) -> VocabularyTables:
    """Eight classes per basic-level name, forty per supercategory."""
    groups = {"basic": 8, "supercategory": 40}
    rows = {
        name: ", ".join(f'"{c}": "{name} {k // size}"' for k, c in enumerate(categories.names))
        for name, size in groups.items()
    }
    (folder / "tables.json").write_text("{" + ", ".join(f'"{name}": {{{row}}}' for name, row in rows.items()) + "}")
    return VocabularyTables.read(folder / "tables.json")


def _spoken(predictions: Predictions, categories: Categories) -> Predictions:
    """The detections with the name of their class as their phrase."""
    names = {int(k): f"a {name}" for k, name in zip(categories.ids, categories.names, strict=True)}
    phrases = np.array([names.get(k, "nothing") for k in predictions.category_id.tolist()], object)
    return dataclasses.replace(predictions, phrase=phrases)


def _queries(gt: GroundTruth) -> Queries:
    """A query for each class that is in an image or verified to be absent."""
    boxes: dict[tuple[int, int], list[tuple[float, float, float, float]]] = {}
    for image, label, (x, y, w, h) in zip(
        gt.image_index.tolist(), gt.class_index.tolist(), gt.boxes_xywh.tolist(), strict=True
    ):
        boxes.setdefault((image, label), []).append((x, y, w, h))
    absent = zip(gt.neg.row_index().tolist(), gt.neg.values.tolist(), strict=True)
    pairs = [*boxes, *(pair for pair in absent if pair not in boxes)]
    ids = gt.image_ids.tolist()
    queries = [
        Query(number, ids[image], label, boxes.get((image, label), []), absent=(image, label) not in boxes)
        for number, (image, label) in enumerate(pairs)
    ]
    sizes = [(int(width), int(height)) for width, height in gt.image_sizes]
    return Queries.of(queries, gt.categories.names, ids, sizes, [str(image) for image in ids])


def _grounding(phrases: int, boxes_each: int) -> tuple[GroundingTruth, GroundingPredictions]:
    """One box per phrase, predictions scattered around it."""
    rng = np.random.default_rng(0)
    ids = np.arange(phrases, dtype=np.int64)
    boxes = np.concatenate([rng.random((phrases, 2)) * 400, rng.random((phrases, 2)) * 200 + 8], axis=1)
    untyped = Ragged(np.zeros(phrases + 1, np.int64), np.empty(0, np.int32))
    truth = GroundingTruth(ids, ids // 8, np.arange(phrases + 1, dtype=np.int64), boxes, (), untyped)
    predicted = np.repeat(boxes.astype(np.float32), boxes_each, axis=0)
    predicted += rng.normal(0, 20, predicted.shape).astype(np.float32)
    score = rng.random(len(predicted), np.float32)
    return truth, GroundingPredictions(np.repeat(ids, boxes_each), score, predicted)


def _timed(name: str, repeats: int, call: Callable[[], object]) -> tuple[str, ...]:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return name, f"{median(seconds):.2f}", f"{min(seconds):.2f}"


def main(
    images: Annotated[int, typer.Option(min=1, help="Images of the set.")] = 5000,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each statistic.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Markdown file to write.")] = None,
    work: Annotated[Path | None, typer.Option(help="Where the set is kept. Default: the user's cache.")] = None,
) -> None:
    """Time every statistic beyond AP on one synthetic LVIS-like set."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    lines = describe_machine(["numpy", "scipy"])
    console.print(*lines, sep="\n")
    directory = synthetic_set(work or user_cache_path("ovd-bench") / "perf", "lvis", images)
    gt = read_ground_truth(directory / "gt.json")
    predictions = read_predictions(directory / FORMS["columns"])
    protocol = PROTOCOLS["lvis"]
    evaluation = evaluate(gt, predictions, protocol, keep_records=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_similarity(folder / "judge.npz", _similarity(gt.categories.names))
        spoken, tables = _spoken(predictions, gt.categories), _tables(gt.categories, folder)
        judge, queries = folder / "judge.npz", _queries(gt)
        subject = MetricInput(
            gt, predictions, spoken, protocol, evaluation, tables, judge, None, None, threshold=0.5, queries=queries
        )
        rows = [
            _timed(extra, repeats, partial(EXTRA_METRICS[extra], subject))
            for extra in EXTRA_METRICS
            if extra not in _NEEDS_IMAGES
        ]
    truth, boxes = _grounding(images * 8, 300)
    rows.append(
        _timed(f"grounding, 300 boxes for {images * 8:,} phrases", repeats, partial(evaluate_grounding, truth, boxes))
    )
    table = MarkdownTable(
        f"{images:,} images, {len(predictions):,} detections", ("statistic", "median s", "least s"), rows
    )
    table.show(console)
    if out is not None:
        how = str(__doc__).split("\n\n", 1)[1]
        head = ["# Speed of the statistics beyond AP", "", *(f"- {line}" for line in lines), "", how]
        out.write_text("\n".join([*head, table.markdown()]))


if __name__ == "__main__":
    typer.run(main)
