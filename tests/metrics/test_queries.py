"""Figures of queries against a plain reference, on resampled data, and of answerers who try to cheat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovd_bench.metrics.bootstrap import resample_weights
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.presence import presence
from ovd_bench.metrics.protocol import PROTOCOLS
from ovd_bench.metrics.queries import Queries, Query
from ovd_bench.metrics.query_figures import evaluate_queries
from ovd_bench.metrics.types import Predictions

Box = tuple[float, float, float, float]
Row = tuple[int, int, float, Box]
KINDS = ("absent", "easy", "hard")
IMAGES, QUESTIONS = 4, 3


def queries_of(queries: Sequence[Query], images: int = IMAGES, questions: int = QUESTIONS) -> Queries:
    return Queries.of(
        queries,
        [f"thing {number}" for number in range(questions)],
        list(range(1, images + 1)),
        [(100, 80)] * images,
        [f"{image}.jpg" for image in range(1, images + 1)],
    )


def predictions_of(rows: Sequence[Row]) -> Predictions:
    """Rows are (image id, question, score, box)."""
    return Predictions.from_boxes(
        [image for image, _, _, _ in rows],
        [question + 1 for _, question, _, _ in rows],
        np.array([score for _, _, score, _ in rows], np.float64),
        np.array([box for _, _, _, box in rows], np.float64).reshape(-1, 4),
    )


def iou(a: Box, b: Box) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inter = max(width, 0.0) * max(height, 0.0)
    return inter / (a[2] * a[3] + b[2] * b[3] - inter) if inter else 0.0


def reference(queries: Sequence[Query], rows: Sequence[Row]) -> dict[str, float | None]:
    """Query by query: the best boxes first, then shares and means."""
    figures: dict[str, list[tuple[float, Query]]] = {"R@1_any": [], "R@5_any": [], "mIoU": []}
    positive: list[float] = []
    negative: list[tuple[float, Query]] = []
    for query in queries:
        mine = [row for row in rows if row[:2] == (query.image_id, query.question)]
        mine.sort(key=lambda row: -row[2])
        top = mine[0][2] if mine else -np.inf
        if query.absent:
            negative.append((top, query))
        if not query.boxes_xywh:
            continue
        positive.append(top)
        overlaps = [max(iou(row[3], box) for box in query.boxes_xywh) for row in mine]
        figures["R@1_any"].append((float(any(o >= 0.5 for o in overlaps[:1])), query))
        figures["R@5_any"].append((float(any(o >= 0.5 for o in overlaps[:5])), query))
        figures["mIoU"].append((overlaps[0] if overlaps else 0.0, query))
    found: dict[str, float | None] = {}
    for kind in ("", *sorted({kind for query in queries for kind in query.kinds})):
        suffix = f"/{kind}" if kind else ""
        for name, values in figures.items():
            chosen = [value for value, query in values if not kind or kind in query.kinds]
            found[f"queries/{name}{suffix}"] = sum(chosen) / len(chosen) if chosen else None
        wrong = [score for score, query in negative if not kind or kind in query.kinds]
        if not positive or not wrong:
            found[f"queries/fpr95{suffix}"] = found[f"queries/auroc{suffix}"] = None
            continue
        threshold = sorted(positive, reverse=True)[int(np.ceil(0.95 * len(positive) - 1e-9)) - 1]
        found[f"queries/fpr95{suffix}"] = (
            1.0 if threshold == -np.inf else sum(score >= threshold for score in wrong) / len(wrong)
        )
        wins = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in wrong]
        found[f"queries/auroc{suffix}"] = sum(wins) / len(wins)
    return found


sides = st.integers(1, 6).map(float)
boxes = st.tuples(sides, sides, sides, sides)
scores = st.integers(0, 4).map(lambda value: value / 4)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Query], list[Row]]:
    pairs = draw(st.lists(st.tuples(st.integers(1, IMAGES), st.integers(0, QUESTIONS - 1)), min_size=1, max_size=8))
    absent = {pair: draw(st.booleans()) for pair in pairs}
    queries = [
        Query(
            query_id=number,
            image_id=pair[0],
            question=pair[1],
            boxes_xywh=() if absent[pair] else draw(st.lists(boxes, max_size=2)),
            absent=absent[pair],
            kinds=tuple(draw(st.lists(st.sampled_from(KINDS), max_size=2))),
        )
        for number, pair in enumerate(pairs)
    ]
    rows = draw(st.lists(st.tuples(st.integers(1, IMAGES), st.integers(0, QUESTIONS - 1), scores, boxes), max_size=12))
    return queries, rows


@given(cases())
@settings(deadline=None, max_examples=150)
def test_every_figure_is_that_of_loops(case: tuple[list[Query], list[Row]]) -> None:
    queries, rows = case
    found = evaluate_queries(queries_of(queries), predictions_of(rows)).metrics
    for name, value in reference(queries, rows).items():
        assert found[name] == (None if value is None else pytest.approx(value, abs=1e-12)), name


@given(cases(), st.integers(0, 2**31 - 1))
@settings(deadline=None, max_examples=60)
def test_a_resample_is_the_data_set_with_images_repeated(case: tuple[list[Query], list[Row]], seed: int) -> None:
    queries, rows = case
    weights = resample_weights(IMAGES, 3, seed)
    estimates = evaluate_queries(queries_of(queries), predictions_of(rows)).estimates(weights)
    for number, times in enumerate(weights.tolist()):
        copies = [(image, copy) for image in range(1, IMAGES + 1) for copy in range(times[image - 1])]
        again: list[Query] = []
        repeated: list[Row] = []
        for position, (image, _) in enumerate(copies, 1):
            for query in queries:
                if query.image_id == image:
                    fields = vars(query) | {"query_id": len(again), "image_id": position}
                    again.append(Query(**fields))
            repeated += [(position, *row[1:]) for row in rows if row[0] == image]
        known = {kind for query in again for kind in query.kinds}
        found = evaluate_queries(queries_of(again, IMAGES), predictions_of(repeated)).metrics
        for name, estimate in estimates.items():
            kind = name.rpartition("/")[2] if name.count("/") == 2 else ""
            value = found.get(name) if not kind or kind in known else None
            sample = estimate.samples[number]
            assert (np.isnan(sample) and value is None) or sample == pytest.approx(value, abs=1e-12), name


@given(cases())
@settings(deadline=None, max_examples=60)
def test_presence_is_that_of_federated_classes(case: tuple[list[Query], list[Row]]) -> None:
    """Where no pair is asked twice: the queries' ground truth, scored as classes, separates presence alike."""
    queries, rows = case
    if len({(query.image_id, query.question) for query in queries}) < len(queries):
        return
    columns = queries_of(queries)
    classes = presence(columns.truth, predictions_of(rows), PROTOCOLS["queries"]).random
    found = evaluate_queries(columns, predictions_of(rows)).metrics
    assert found["queries/auroc"] == (None if classes.auroc is None else pytest.approx(classes.auroc))
    assert found["queries/fpr95"] == (None if classes.fpr95 is None else pytest.approx(classes.fpr95))


def half_absent(count: int = 40) -> list[Query]:
    """Every image is asked for a thing that is there and for one that is not."""
    there = [Query(2 * image, image, 0, [(10.0, 10.0, 20.0, 20.0)]) for image in range(1, count + 1)]
    gone = [Query(2 * image + 1, image, 1, absent=True) for image in range(1, count + 1)]
    return [*there, *gone]


@pytest.mark.parametrize(
    ("box", "questions", "expected"),
    [
        pytest.param((10.0, 10.0, 20.0, 20.0), (0, 1), {"R@1_any": 1.0, "fpr95": 1.0, "auroc": 0.5}, id="says yes"),
        pytest.param((10.0, 10.0, 20.0, 20.0), (), {"R@1_any": 0.0, "mIoU": 0.0, "fpr95": 1.0}, id="says nothing"),
        pytest.param((0.0, 0.0, 100.0, 80.0), (0, 1), {"R@1_any": 0.0, "mIoU": 0.05, "auroc": 0.5}, id="huge box"),
        pytest.param((10.0, 10.0, 20.0, 20.0), (0,), {"R@1_any": 1.0, "fpr95": 0.0, "auroc": 1.0}, id="knows"),
    ],
)
def test_who_cheats_scores_low_somewhere(box: Box, questions: Sequence[int], expected: dict[str, float]) -> None:
    rows = [(image, question, 0.9, box) for image in range(1, 41) for question in questions]
    found = evaluate_queries(queries_of(half_absent(), 40, 2), predictions_of(rows)).metrics
    assert {name: found[f"queries/{name}"] for name in expected} == pytest.approx(expected)


def test_calibration_of_presence() -> None:
    rows = [(image, 0, 0.75, (10.0, 10.0, 20.0, 20.0)) for image in range(1, 41)]
    rows += [(image, 1, 0.35, (10.0, 10.0, 20.0, 20.0)) for image in range(1, 21)]
    found = evaluate_queries(queries_of(half_absent(), 40, 2), predictions_of(rows)).metrics
    assert found["queries/presence_ece"] == pytest.approx((40 * 0.25 + 20 * 0.35) / 80)
    assert found["queries/presence_brier"] == pytest.approx((40 * 0.25**2 + 20 * 0.35**2) / 80)
    beyond = predictions_of([(1, 0, 1.5, (1.0, 1.0, 2.0, 2.0))])
    assert evaluate_queries(queries_of(half_absent(), 40, 2), beyond).metrics["queries/presence_ece"] is None


def test_two_expressions_of_one_text_have_boxes_of_their_own() -> None:
    queries = [Query(1, 1, 0, [(0.0, 0.0, 10.0, 10.0)]), Query(2, 1, 0, [(50.0, 50.0, 10.0, 10.0)])]
    found = evaluate_queries(queries_of(queries), predictions_of([(1, 0, 0.5, (0.0, 0.0, 10.0, 10.0))]))
    assert found.metrics["queries/acc@0.5"] == 0.5
    assert len(queries_of(queries).truth.ann_ids) == 2


def test_what_was_not_asked_is_told_and_not_counted() -> None:
    queries = [Query(1, 1, 0, [(0.0, 0.0, 10.0, 10.0)]), Query(2, 1, 1)]
    rows = [(image, question, 0.5, (0.0, 0.0, 10.0, 10.0)) for image, question in ((1, 0), (1, 1), (2, 0))]
    found = evaluate_queries(queries_of(queries), predictions_of(rows))
    assert found.metrics["queries/R@1_any"] == 1.0
    assert found.notes == (
        "1 boxes answer what was not asked of their image: left out",
        "1 queries have no box and are not known to be absent: not scored",
    )


def test_a_part_of_the_images() -> None:
    queries = queries_of(half_absent(5), 5, 2)
    part = queries.of_images(np.array([2, 4], np.int64))
    assert part.query_ids.tolist() == [4, 5, 8, 9]
    assert part.truth.image_ids.tolist() == [2, 4]
    assert [part.truth.neg[image].tolist() for image in range(2)] == [[1], [1]]
    with pytest.raises(DataError, match="image 7"):
        queries.of_images(np.array([7], np.int64))


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ([Query(1, 1, 0), Query(1, 1, 1)], "query 1 occurs twice"),
        ([Query(1, 9, 0)], "image 9"),
        ([Query(1, 1, 3)], "question 3"),
        ([Query(1, 1, 0, [(0.0, 0.0, 1.0, 1.0)], absent=True)], "is absent and has 1 boxes"),
        ([Query(1, 1, 0, [(0.0, 0.0, 1.0, 1.0)]), Query(2, 1, 0, absent=True)], "both present and absent"),
    ],
)
def test_contradictions_are_refused(queries: list[Query], message: str) -> None:
    with pytest.raises(DataError, match=message):
        queries_of(queries)
