"""Recall of phrase grounding against a plain reference, and cases with known answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovd_bench.metrics import grounding
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.grounding import RECALL_AT, GroundingPredictions, GroundingTruth, Rule, evaluate_grounding
from ovd_bench.metrics.types import Ragged
from ovd_bench.tests.values import number

Box = tuple[float, float, float, float]
PEOPLE, CLOTHING = 0, 1


def truth_of(phrases: Sequence[tuple[int, Sequence[Box], Sequence[int]]]) -> GroundingTruth:
    """Phrases are (phrase id, boxes xywh, types); two phrases share an image."""
    boxes = [box for _, row, _ in phrases for box in row]
    return GroundingTruth(
        phrase_ids=np.array([phrase_id for phrase_id, _, _ in phrases], np.int64),
        image_id=np.arange(len(phrases), dtype=np.int64) // 2,
        box_offsets=np.cumsum([0, *(len(row) for _, row, _ in phrases)]).astype(np.int64),
        boxes_xywh=np.array(boxes, np.float64).reshape(-1, 4),
        type_names=("people", "clothing"),
        types=Ragged.from_lists([list(types) for _, _, types in phrases]),
    )


def predictions_of(rows: Sequence[tuple[int, float, Box]], dtype: type = np.float64) -> GroundingPredictions:
    return GroundingPredictions(
        np.array([phrase_id for phrase_id, _, _ in rows], np.int64),
        np.array([score for _, score, _ in rows], dtype),
        np.array([box for _, _, box in rows], dtype).reshape(-1, 4),
    )


def iou(a: Box, b: Box) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inter = max(width, 0.0) * max(height, 0.0)
    return inter / (a[2] * a[3] + b[2] * b[3] - inter) if inter else 0.0


def merged(boxes: Sequence[Box]) -> Box:
    x, y = min(b[0] for b in boxes), min(b[1] for b in boxes)
    return x, y, max(b[0] + b[2] for b in boxes) - x, max(b[1] + b[3] for b in boxes) - y


def reference(
    phrases: Sequence[tuple[int, Sequence[Box], Sequence[int]]], rows: Sequence[tuple[int, float, Box]]
) -> dict[str, float | None]:
    """Phrase by phrase: sort the boxes, cut at k, ask for a hit."""
    hits: dict[str, list[bool]] = {}
    for phrase_id, boxes, types in phrases:
        if not boxes:
            continue
        ranked = [box for _, _, box in sorted((r for r in rows if r[0] == phrase_id), key=lambda r: -r[1])]
        for rule, targets in (("any", boxes), ("merged", [merged(boxes)])):
            for name, k in [*((f"R@{k}", k) for k in RECALL_AT), ("upper_bound", len(ranked))]:
                hit = any(iou(box, target) >= 0.5 for box in ranked[:k] for target in targets)
                for suffix in ["", *("/" + ("people", "clothing")[t] for t in types)]:
                    hits.setdefault(f"grounding/{name}_{rule}{suffix}", []).append(hit)
    names = [f"grounding/{n}_{r}" for n in (*(f"R@{k}" for k in RECALL_AT), "upper_bound") for r in ("any", "merged")]
    keys = [name + suffix for name in names for suffix in ("", "/people", "/clothing")]
    return {key: sum(hits[key]) / len(hits[key]) if key in hits else None for key in keys}


# small whole numbers: overlaps, equal scores and IoU of exactly 0.5 are frequent
box_strategy = st.tuples(*(st.integers(0, 4).map(float),) * 2, *(st.integers(0, 4).map(float),) * 2)
types_strategy = st.lists(st.sampled_from([PEOPLE, CLOTHING]), unique=True)
phrase_strategy = st.tuples(st.lists(box_strategy, max_size=4), types_strategy)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), block=st.sampled_from([1, 3, 1 << 20]))
def test_equals_reference(data: st.DataObject, block: int) -> None:
    phrases = [(10 + 3 * i, *p) for i, p in enumerate(data.draw(st.lists(phrase_strategy, min_size=1, max_size=5)))]
    ids = st.sampled_from([p[0] for p in phrases])
    scores = st.integers(0, 3).map(float)
    rows = data.draw(st.lists(st.tuples(ids, scores, box_strategy), max_size=30))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grounding, "_BLOCK", block)
        result = evaluate_grounding(truth_of(phrases), predictions_of(rows))
    assert {k: v for k, v in result.metrics.items() if "acc@" not in k} == reference(phrases, rows)


def test_equals_reference_on_many_boxes() -> None:
    rng = np.random.default_rng(5)

    def boxes(count: int) -> list[Box]:
        return [(x, y, w, h) for x, y, w, h in (rng.random((count, 4)) * [50, 50, 90, 90]).tolist()]

    phrases = [(i, boxes(int(rng.integers(0, 4))), [i % 2]) for i in range(40)]
    ids = rng.integers(0, 40, 1200)
    rows = list(zip(ids.tolist(), rng.integers(0, 30, 1200).astype(float).tolist(), boxes(1200), strict=True))
    result = evaluate_grounding(truth_of(phrases), predictions_of(rows))
    assert {k: v for k, v in result.metrics.items() if "acc@" not in k} == reference(phrases, rows)
    assert 0 < number(result.metrics["grounding/R@1_any"]) < number(result.metrics["grounding/R@10_any"]) < 1


def test_any_and_merged_disagree_on_a_pair_of_boxes() -> None:
    left, right, both = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 10.0, 10.0), (0.0, 0.0, 30.0, 10.0)
    truth = truth_of([(1, [left, right], [PEOPLE]), (2, [left, right], [PEOPLE])])
    result = evaluate_grounding(truth, predictions_of([(1, 0.9, right), (2, 0.9, both)]))
    assert result.hits("any", 1).tolist() == [True, False]
    assert result.hits("merged", 1).tolist() == [False, True]
    assert result.metrics["grounding/acc@0.5"] is None  # several boxes: the rule must be named


def test_iou_of_exactly_one_half_hits() -> None:
    truth = truth_of([(1, [(0, 0, 10, 10)], [])])
    assert evaluate_grounding(truth, predictions_of([(1, 0.1, (0, 0, 10, 5))])).metrics["grounding/R@1_any"] == 1.0
    assert evaluate_grounding(truth, predictions_of([(1, 0.1, (0, 0, 10, 4.99))])).metrics["grounding/R@1_any"] == 0.0


def test_rank_counts_boxes_above_the_first_hit_and_ties_follow_the_file() -> None:
    hit, miss = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 5.0, 5.0)
    truth = truth_of([(1, [hit], []), (2, [hit], []), (3, [hit], []), (4, [hit], [])])
    rows = [(1, 0.5, miss), (1, 0.5, hit), (2, 0.5, hit), (2, 0.5, miss), *((3, 0.9, miss),) * 5, (3, 0.1, hit)]
    result = evaluate_grounding(truth, predictions_of(rows))
    assert result.rank["any"].tolist() == [2, 1, 6, 0]
    assert result.metrics["grounding/acc@0.5"] == 0.25
    assert result.metrics["grounding/R@5_any"] == 0.5
    assert result.metrics["grounding/R@10_any"] == result.metrics["grounding/upper_bound_any"] == 0.75


def test_phrases_without_box_are_left_out_and_without_prediction_missed() -> None:
    hit = (0.0, 0.0, 10.0, 10.0)
    truth = truth_of([(1, [], [PEOPLE]), (2, [hit], []), (3, [hit], [])])
    result = evaluate_grounding(truth, predictions_of([(1, 0.9, hit), (2, 0.9, hit), (2, 0.8, (5, 5, 0, -1))]))
    assert result.scored.tolist() == [False, True, True]
    assert result.metrics["grounding/R@1_any"] == 0.5
    assert result.metrics["grounding/R@1_any/people"] is None
    assert result.notes == (
        "1 phrases have no ground-truth box and are not scored",
        "1 scored phrases have no predicted box and count as missed",
        "1 predicted boxes belong to phrases that are not scored",
        "1 predicted boxes have no area and hit nothing",
    )


def test_a_phrase_counts_in_every_type_it_has() -> None:
    hit, miss = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 5.0, 5.0)
    truth = truth_of([(1, [hit], [PEOPLE, CLOTHING]), (2, [hit], [CLOTHING])])
    metrics = evaluate_grounding(truth, predictions_of([(1, 0.9, hit), (2, 0.9, miss)])).metrics
    assert metrics["grounding/R@1_any"] == 0.5
    assert metrics["grounding/acc@0.5/people"] == 1.0
    assert metrics["grounding/acc@0.5/clothing"] == 0.5


def test_order_of_rows_and_float_width_change_nothing() -> None:
    rng = np.random.default_rng(0)
    truth = truth_of([(i, [(0.0, 0.0, 8.0, 8.0), (20.0, 0.0, 8.0, 8.0)][: 1 + i % 2], [i % 2]) for i in range(20)])
    boxes = (rng.integers(0, 12, (400, 4)) + np.array([0, 0, 4, 4])).astype(np.float32)
    scores = rng.permutation(400).astype(np.float32)  # no ties
    single = GroundingPredictions(rng.integers(0, 20, 400), scores, boxes)
    order = rng.permutation(400)
    shuffled = GroundingPredictions(single.phrase_id[order], scores[order], boxes[order])
    double = GroundingPredictions(single.phrase_id, scores.astype(float), boxes.astype(float))
    expected = evaluate_grounding(truth, single)
    rules: tuple[Rule, ...] = ("any", "merged")
    for other in (shuffled, double):
        result = evaluate_grounding(truth, other)
        assert result.metrics == expected.metrics
        assert all((result.rank[rule] == expected.rank[rule]).all() for rule in rules)


def test_many_boxes_at_random_do_not_raise_recall_at_1() -> None:
    hit = (0.0, 0.0, 10.0, 10.0)
    truth = truth_of([(i, [hit], []) for i in range(50)])
    shotgun = [(i, 1.0 - j / 100, (7.0 * j, 0.0, 7.0, 7.0)) for i in range(50) for j in reversed(range(60))]
    everything = [(i, 0.5, (0.0, 0.0, 1000.0, 1000.0)) for i in range(50)]
    assert evaluate_grounding(truth, predictions_of(shotgun)).metrics["grounding/R@1_any"] == 0.0
    assert evaluate_grounding(truth, predictions_of(everything)).metrics["grounding/upper_bound_any"] == 0.0


def test_no_predictions_score_zero() -> None:
    metrics = evaluate_grounding(truth_of([(1, [(0, 0, 1, 1)], [])]), predictions_of([])).metrics
    assert metrics["grounding/R@10_any"] == 0.0


def test_unknown_phrase_is_refused() -> None:
    truth = truth_of([(1, [(0, 0, 1, 1)], [])])
    with pytest.raises(DataError, match="record 1: phrase_id 7 is not in the ground truth"):
        evaluate_grounding(truth, predictions_of([(1, 0.5, (0, 0, 1, 1)), (7, 0.5, (0, 0, 1, 1))]))


@pytest.mark.parametrize(
    ("box", "message"),
    [((0, 0, -1, 1), "negative width"), ((0, 0, float("nan"), 1), "finite"), ((float("inf"), 0, 1, 1), "finite")],
)
def test_bad_true_boxes_are_refused(box: Box, message: str) -> None:
    with pytest.raises(DataError, match=f"box 1.*{message}"):
        truth_of([(1, [(0, 0, 1, 1), box], [])])


def test_bad_predictions_are_refused() -> None:
    with pytest.raises(DataError, match="record 1: score is nan"):
        predictions_of([(1, 0.5, (0, 0, 1, 1)), (1, float("nan"), (0, 0, 1, 1))])
    with pytest.raises(DataError, match=r"box 0 is .*nan"):
        predictions_of([(1, 0.5, (0, 0, float("nan"), 1))])
    with pytest.raises(DataError, match="boxes_xywh is"):
        GroundingPredictions(np.zeros(2, np.int64), np.zeros(2), np.zeros((1, 4)))


def test_unsorted_or_repeated_phrase_ids_are_refused() -> None:
    with pytest.raises(DataError, match="strictly increasing"):
        truth_of([(2, [], []), (2, [], [])])
