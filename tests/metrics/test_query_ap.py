"""AP of kinds of queries: by hand, against pycocotools, and against OmniLabel's arithmetic written anew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import Evaluation, evaluate
from ovd_bench.metrics.protocol import IOU_THRESHOLDS, PROTOCOLS, RECALL_THRESHOLDS
from ovd_bench.metrics.queries import Queries, Query
from ovd_bench.metrics.query_ap import MAX_RESAMPLED, KindAp, ap_by_kind
from ovd_bench.metrics.types import Predictions
from ovd_bench.tests.oracles import run_coco

BOX, FAR = (10.0, 10.0, 20.0, 20.0), (60.0, 60.0, 20.0, 20.0)
Row = tuple[int, int, float, tuple[float, float, float, float]]


def _queries(rows: Sequence[Query], questions: int, images: int) -> Queries:
    ids = list(range(1, images + 1))
    names = [f"text {number}" for number in range(questions)]
    return Queries.of(rows, names, ids, [(100, 100)] * images, [f"{image}.jpg" for image in ids])


def _predictions(rows: Sequence[Row]) -> Predictions:
    return Predictions.from_boxes(
        [image for image, *_ in rows],
        [question + 1 for _, question, *_ in rows],
        np.array([score for *_, score, _ in rows], np.float64),
        [box for *_, box in rows],
    )


def _evaluated(queries: Queries, rows: Sequence[Row]) -> tuple[Evaluation, KindAp]:
    predictions = _predictions(rows)
    evaluation = evaluate(queries.truth, predictions, PROTOCOLS["queries"], keep_records=True)
    return evaluation, ap_by_kind(queries, evaluation, predictions)


def test_by_hand() -> None:
    rows = [
        Query(1, 1, 0, [BOX], kinds=("categ",)),
        Query(2, 2, 0, absent=True, kinds=("categ",)),
        Query(3, 1, 1, [BOX], kinds=("descr", "descr-pos")),
        Query(4, 2, 1, absent=True, kinds=("descr",)),
        Query(5, 2, 2, [FAR], kinds=("descr", "descr-pos")),
        Query(6, 1, 3, absent=True, kinds=("never",)),
        Query(7, 1, 2, kinds=("unknown",)),
    ]
    found = [
        (1, 0, 0.9, BOX),
        (2, 0, 0.8, BOX),
        (2, 1, 0.7, BOX),
        (1, 1, 0.6, BOX),
        (2, 2, 0.5, FAR),
        (1, 2, 0.99, BOX),
    ]
    evaluation, result = _evaluated(_queries(rows, 4, 2), found)
    # question 1 has a false box before its true one: AP 1/2; question 2 is perfect, its other image is not known
    assert evaluation.per_class_ap[:3].tolist() == pytest.approx([1.0, 0.5, 1.0])
    assert result.metrics == {
        "queries/AP/categ": pytest.approx(1.0),
        "queries/APpool/categ": pytest.approx(1.0),
        "queries/AP/descr": pytest.approx(0.75),
        "queries/APpool/descr": pytest.approx(2 / 3),  # false, true, true: 2/3 at every recall
        "queries/AP/descr-pos": pytest.approx(0.75),  # of a question over all its images
        "queries/APpool/descr-pos": pytest.approx(1.0),  # of pairs: the false box is in another image
        "queries/AP/never": None,
        "queries/APpool/never": None,
        "queries/AP/unknown": None,
        "queries/APpool/unknown": None,
        "queries/omnilabel": pytest.approx(2 * 2 / 3 / (1 + 2 / 3 + 1e-5)),
    }
    assert {name: classes.tolist() for name, classes in result.class_means.items()} == {
        "queries/AP/categ": [0], "queries/AP/descr": [1, 2], "queries/AP/descr-pos": [1, 2], "queries/AP/never": [3],
        "queries/AP/unknown": [],
    }  # fmt: skip


def test_without_kinds_boxes_or_records() -> None:
    plain = _queries([Query(1, 1, 0, [BOX])], 1, 1)
    assert _evaluated(plain, [(1, 0, 0.5, BOX)])[1] == KindAp()
    kinds = _queries([Query(1, 1, 0, [BOX], kinds=("a",))], 1, 1)
    nothing = _predictions([])
    with pytest.raises(DataError, match="keep_records"):
        ap_by_kind(kinds, evaluate(kinds.truth, nothing, PROTOCOLS["queries"]), nothing)
    assert _evaluated(kinds, [])[1].metrics == {"queries/AP/a": 0.0, "queries/APpool/a": 0.0}


def test_large_sets_have_no_resampled_means() -> None:
    count = MAX_RESAMPLED + 1
    rows = [Query(number, 1, number, [BOX], kinds=("a",)) for number in range(count)]
    _, result = _evaluated(_queries(rows, count, 1), [(1, 0, 0.5, BOX)])
    assert result.metrics["queries/AP/a"] == pytest.approx(1 / count)
    assert result.class_means == {}


def _random(seed: int, questions: int = 8, images: int = 12) -> tuple[Queries, list[Row]]:
    """Half of all pairs asked, half of these absent; scores on a grid so that many are equal."""
    random = np.random.default_rng(seed)
    rows: list[Query] = []
    found: list[Row] = []
    for question in range(questions):
        for image in range(1, images + 1):
            if random.random() < 0.5:
                continue
            boxes = [tuple(random.integers(1, 40, 4).astype(float)) for _ in range(random.integers(0, 4))]
            kinds = ("categ",) if question < 3 else ("descr", "descr-pos") if boxes else ("descr",)
            rows.append(Query(len(rows), image, question, boxes, absent=not boxes, kinds=kinds))
            for _ in range(random.integers(0, 5)):
                near = np.array(boxes[0] if boxes else BOX) + random.integers(-3, 4, 4)
                found.append((image, question, int(random.integers(0, 9)) / 10, tuple(np.maximum(near, 1))))
    return _queries(rows, questions, images), found


def _coco_ap(queries: Queries, found: list[Row], classes: list[int]) -> float:
    """Pycocotools on the questions as categories; what was not asked has neither boxes nor detections."""
    truth = queries.truth
    annotations = {
        "images": [{"id": int(image), "width": 100, "height": 100} for image in truth.image_ids],
        "categories": [{"id": number + 1, "name": str(number)} for number in classes],
        "annotations": [
            {
                "id": row + 1, "image_id": int(truth.image_ids[truth.image_index[row]]), "iscrowd": 0,
                "category_id": int(truth.class_index[row]) + 1, "bbox": truth.boxes_xywh[row].tolist(),
                "area": float(truth.area[row]),
            }
            for row in range(len(truth.ann_ids)) if int(truth.class_index[row]) in classes
        ],
    }  # fmt: skip
    results = [
        {"image_id": image, "category_id": question + 1, "score": score, "bbox": list(box)}
        for image, question, score, box in found if question in classes
    ]  # fmt: skip
    return float(run_coco(annotations, results).stats[0])


def _omnilabel_ap(queries: Queries, found: list[Row], kind: str) -> float:
    """OmniLabel's AP of a group: pairs one after the other, the best first, one curve per IoU."""
    number = queries.kind_names.index(kind)
    curves = []
    for threshold in IOU_THRESHOLDS:
        scores: list[float] = []
        hits: list[bool] = []
        positives = 0
        pairs = [
            (int(queries.image_index[row]), int(queries.question[row]), row)
            for row in range(len(queries)) if number in queries.kinds[row]
        ]  # fmt: skip
        for image, question, row in sorted(pairs):
            boxes = queries.boxes_xywh[queries.box_offsets[row] : queries.box_offsets[row + 1]].tolist()
            positives += len(boxes)
            own = [one for one in found if one[:2] == (image + 1, question)]
            free = set(range(len(boxes)))
            for *_, score, box in sorted(own, key=lambda one: -one[2]):
                ious = {place: _iou(box, boxes[place]) for place in free}
                fit = [place for place, iou in ious.items() if iou >= min(threshold, 1 - 1e-10)]
                best = max(fit, key=lambda place: (ious[place], place), default=None)
                free -= {best}
                scores.append(score)
                hits.append(best is not None)
        order = np.argsort(-np.array(scores), kind="mergesort")
        true = np.cumsum(np.array(hits, bool)[order])
        precision = true / np.arange(1, len(true) + 1)
        recall = true / positives
        curves.append([max(precision[recall >= wanted], default=0.0) for wanted in RECALL_THRESHOLDS])
    return float(np.mean(curves))


def _iou(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


@pytest.mark.parametrize("seed", range(4))
def test_the_partitions_of_d3_are_pycocotools_on_their_questions(seed: int) -> None:
    queries, found = _random(seed)
    _, result = _evaluated(queries, found)
    for kind, classes in (("categ", [0, 1, 2]), ("descr", [3, 4, 5, 6, 7])):
        assert result.metrics[f"queries/AP/{kind}"] == pytest.approx(_coco_ap(queries, found, classes), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_groups_of_omnilabel(seed: int) -> None:
    queries, found = _random(seed)
    _, result = _evaluated(queries, found)
    expected = {kind: _omnilabel_ap(queries, found, kind) for kind in queries.kind_names}
    assert len(expected) == 3
    for kind, value in expected.items():
        assert result.metrics[f"queries/APpool/{kind}"] == pytest.approx(value, abs=1e-9)
    one, two = expected["categ"], expected["descr"]
    assert result.metrics["queries/omnilabel"] == pytest.approx(2 * one * two / (one + two + 1e-5), abs=1e-9)
