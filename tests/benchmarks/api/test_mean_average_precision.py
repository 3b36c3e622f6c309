"""The metric of training loops against pycocotools, and against torchmetrics where it is installed."""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import ovd_bench as ovd

Batch = list[dict[str, Any]]
SIZES = ((0, 0), (4, 3), (0, 2), (3, 0), (30, 8), (120, 5))
FLOATS = {
    **dict.fromkeys(("map", "map_50", "map_75", "map_small", "map_medium", "map_large"), float),
    **dict.fromkeys(("mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large"), float),
}


def _batches(seed: int, rounds: int = 5, dtype: Any = np.float32) -> list[tuple[Batch, Batch]]:
    """Seeded batches: empty images, jittered boxes, confusions, ties, crowds and areas of masks."""
    rng = np.random.default_rng(seed)
    batches = []
    for _ in range(rounds):
        predictions, targets = [], []
        for found, there in SIZES:
            corner = rng.random((there, 2)) * 400
            boxes = np.concatenate([corner, corner + 2 ** (rng.random((there, 2)) * 6 + 2)], axis=1)
            labels = rng.integers(-1, 4, there) * 3
            source = rng.integers(0, max(there, 1), found)
            pool, names = (boxes, labels) if there else (np.array([[1, 2, 30, 40.0]]), np.array([21]))
            predictions.append(
                {
                    "boxes": (pool[source] * rng.normal(1, 0.03, (found, 4))).astype(dtype),
                    "scores": np.round(rng.random(found), 2).astype(dtype),
                    "labels": np.where(rng.random(found) < 0.7, names[source], rng.integers(-1, 4, found) * 3),
                }
            )
            targets.append({"boxes": boxes.astype(dtype), "labels": labels})
            if there == 8:
                targets[-1]["iscrowd"] = (rng.random(there) < 0.2).astype(np.int64)
                targets[-1]["area"] = np.round(rng.random(there) * 2000 * (rng.random(there) < 0.7)).astype(dtype)
        batches.append((predictions, targets))
    return batches


def _official(batches: list[tuple[Batch, Batch]], **parameters: Any) -> tuple[Any, list[Any]]:
    """Pycocotools by the definition of torchmetrics: over everything, and class by class."""
    truth: list[Any] = []
    found: list[Any] = []
    pairs = [pair for predictions, targets in batches for pair in zip(predictions, targets, strict=True)]
    for image, (predicted, target) in enumerate(pairs):
        for rows, entry in ((found, predicted), (truth, target)):
            for k, box in enumerate(entry["boxes"]):
                xywh = [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]
                area = float(entry["area"][k]) if "area" in entry and entry["area"][k] > 0 else xywh[2] * xywh[3]
                row = {"id": len(rows) + 1, "image_id": image, "category_id": int(entry["labels"][k]), "bbox": xywh}
                row |= {"area": area, "iscrowd": int(entry["iscrowd"][k]) if "iscrowd" in entry else 0}
                rows.append(row | ({"score": float(entry["scores"][k])} if "scores" in entry else {}))
    labels = sorted({row["category_id"] for row in truth + found})
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = []
        for rows in (truth, found):
            coco = COCO()
            coco.dataset = {"images": [{"id": k} for k in range(len(pairs))], "annotations": rows}
            coco.dataset["categories"] = [{"id": label, "name": str(label)} for label in labels]
            coco.createIndex()
            loaded.append(coco)

        def evaluated(classes: list[int]) -> Any:
            evaluator = COCOeval(*copy.deepcopy(loaded), "bbox")
            evaluator.params.catIds = classes
            for name, value in parameters.items():
                setattr(evaluator.params, name, value)
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
            return evaluator

        return evaluated(labels), [(label, evaluated([label])) for label in labels]


def _metric(batches: list[tuple[Batch, Batch]], **parameters: Any) -> ovd.MeanAveragePrecision:
    metric = ovd.MeanAveragePrecision(**parameters)
    for predictions, targets in batches:
        metric.update(predictions, targets)
    return metric


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_pycocotools(dtype: Any) -> None:
    batches = _batches(1, dtype=dtype)
    official, per_class = _official(batches)
    found = _metric(batches, class_metrics=True).compute()
    assert [found[name] for name in FLOATS] == pytest.approx(official.stats, abs=1e-12)
    assert found["classes"].tolist() == [label for label, _ in per_class]
    assert found["map_per_class"] == pytest.approx([one.stats[0] for _, one in per_class], abs=1e-12)
    assert found["mar_100_per_class"] == pytest.approx([one.stats[8] for _, one in per_class], abs=1e-12)
    assert found["map_per_class"][-1] == -1  # found, but nowhere there
    assert all(isinstance(found[name], float) for name in FLOATS)


def test_thresholds_of_ones_own() -> None:
    batches = _batches(2)
    limits = [100, 2, 20]
    official, _ = _official(
        batches, iouThrs=np.array([0.3, 0.5]), recThrs=np.linspace(0, 1, 11), maxDets=copy.copy(limits)
    )
    parameters = {"iou_thresholds": [0.3, 0.5], "rec_thresholds": np.linspace(0, 1, 11).tolist()}
    found = _metric(batches, **parameters, max_detection_thresholds=limits).compute()
    names = ["map", "map_50", "map_75", "map_small", "map_medium", "map_large", "mar_2", "mar_20", "mar_100"]
    assert [found[name] for name in names] == pytest.approx(official.stats[:9], abs=1e-12)
    assert found["map_75"] == -1
    # pycocotools has no `map` unless 100 is among the limits
    wide = _metric(batches, max_detection_thresholds=[1, 10, 1000]).compute()
    assert wide["map"] > 0
    assert "mar_1000" in wide


def test_torch_loop() -> None:
    """A loop that trains nothing, with tensors of all kinds."""
    torch = pytest.importorskip("torch")
    batches = _batches(3)
    expected = _metric(batches).compute()
    metric = ovd.MeanAveragePrecision()
    for epoch in range(2):
        metric.reset()
        for predictions, targets in batches:
            preds = [{key: torch.from_numpy(value) for key, value in entry.items()} for entry in predictions]
            for entry in preds:
                entry["scores"].requires_grad_()
            target = [{key: torch.from_numpy(value) for key, value in entry.items()} for entry in targets]
            metric.update(preds, target)
        found = metric.compute()
        assert {name: found[name] for name in FLOATS} == {name: expected[name] for name in FLOATS}, epoch
        assert f"{found['map']:.3f}" == f"{found['map'].item():.3f}"


def test_half_precision_counts_as_float32() -> None:
    torch = pytest.importorskip("torch")
    boxes = torch.tensor([[0.1, 10, 300.7, 200]])
    for half in (torch.bfloat16, torch.float16):
        found, expected = (
            _metric([([{"boxes": b, "scores": torch.ones(1), "labels": torch.ones(1, dtype=torch.int32)}], truth)])
            for b, truth in (
                (boxes.to(half), [{"boxes": boxes, "labels": torch.tensor([1])}]),
                (boxes.to(half).float(), [{"boxes": boxes, "labels": torch.tensor([1])}]),
            )
        )
        assert found.compute() == expected.compute()


def test_plain_lists_and_empty_tensors() -> None:
    metric = ovd.MeanAveragePrecision()
    metric.update(
        [{"boxes": [[0, 0, 10, 10]], "scores": [0.5], "labels": [7]}, {"boxes": [], "scores": [], "labels": []}],
        [{"boxes": [[0, 0, 10, 10]], "labels": [7]}, {"boxes": np.zeros((0, 4)), "labels": np.zeros(0)}],
    )
    found = metric.compute()
    assert found["map"] == pytest.approx(1)
    assert (found["mar_1"], found["map_large"], found["map_per_class"]) == (1, -1, -1)
    assert found["classes"].tolist() == [7]


def test_no_images() -> None:
    metric = ovd.MeanAveragePrecision(class_metrics=True)
    for _ in range(2):
        found = metric.compute()
        assert {found[name] for name in FLOATS} == {-1}
        assert (len(found["classes"]), len(found["map_per_class"])) == (0, 0)
        metric.update([{"boxes": [], "scores": [], "labels": []}], [{"boxes": [], "labels": []}])


def test_parts_are_merged() -> None:
    batches = _batches(4)
    whole = _metric(batches, class_metrics=True).compute()
    first, second = (_metric(part, class_metrics=True) for part in (batches[:2], batches[2:]))
    gathered = [pickle.loads(pickle.dumps(part)) for part in (first, second)]
    gathered[0].merge(gathered[1])
    merged = gathered[0].compute()
    assert all(np.array_equal(merged[key], whole[key]) for key in whole)
    assert all(np.array_equal(gathered[1].compute()[key], second.compute()[key]) for key in whole)
    with pytest.raises(ovd.DataError, match="made with different parameters"):
        first.merge(ovd.MeanAveragePrecision())


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, ovd_bench as ovd\n"
        "metric = ovd.MeanAveragePrecision()\n"
        "metric.update([{'boxes': [[0, 0, 9, 9]], 'scores': [1.0], 'labels': [1]}], [{'boxes': [], 'labels': []}])\n"
        "metric.compute(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_errors_are_one_line_and_add_nothing() -> None:
    good = {"boxes": np.ones((2, 4)), "scores": np.ones(2), "labels": np.ones(2, int)}
    metric = ovd.MeanAveragePrecision()

    def update(**changes: Any) -> Callable[[], None]:
        entry = {key: value for key, value in (good | changes).items() if value is not None}
        return lambda: metric.update([good, entry], [good, good])

    wrong: list[tuple[str, Callable[[], Any]]] = [
        ("1 predictions and 0 targets", lambda: metric.update([good], [])),
        ("prediction 1 of the batch: no 'scores'", update(scores=None)),
        ("prediction 1 of the batch: no 'labels'", update(labels=None)),
        ("boxes have shape (3, 4), expected (2, 4), as there are 2 labels", update(boxes=np.ones((3, 4)))),
        ("scores have shape (1,), expected (2,)", update(scores=[1.0])),
        ("labels have shape (2, 1), expected (n,)", update(labels=np.ones((2, 1), int))),
        ("labels are float64, expected integers", update(labels=np.ones(2))),
        ("a number of scores is not finite", update(scores=[1.0, np.nan])),
        ("a coordinate of boxes is not finite", update(boxes=np.full((2, 4), np.inf))),
        ("scores are <U1, expected numbers", update(scores=["a", "b"])),
        ("target 0 of the batch: no 'boxes'", lambda: metric.update([good], [{"labels": [1]}])),
        ("target 0 of the batch: iscrowd", lambda: metric.update([good], [good | {"iscrowd": [1]}])),
        ("recall_thresholds must be", lambda: ovd.MeanAveragePrecision(rec_thresholds=[2])),
        ("iou_thresholds is empty", lambda: ovd.MeanAveragePrecision(iou_thresholds=[])),
        ("max_detection_thresholds is empty", lambda: ovd.MeanAveragePrecision(max_detection_thresholds=[])),
    ]
    for words, call in wrong:
        with pytest.raises(ovd.DataError) as caught:
            call()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    assert metric.compute()["map"] == -1


@pytest.mark.parametrize("default", [False, True])
def test_equals_torchmetrics(default: bool) -> None:
    """With thresholds in float64, and with its own, which it makes in float32."""
    detection = pytest.importorskip("torchmetrics.detection")
    import torch

    steps = (
        (torch.linspace(0.5, 0.95, 10), torch.linspace(0, 1, 101))
        if default
        else (
            np.linspace(0.5, 0.95, 10),
            np.linspace(0, 1, 101),
        )
    )
    thresholds = {"iou_thresholds": steps[0].tolist(), "rec_thresholds": steps[1].tolist()}
    theirs = detection.MeanAveragePrecision(class_metrics=True, **({} if default else thresholds))
    ours = ovd.MeanAveragePrecision(class_metrics=True, **thresholds)
    for predictions, targets in _batches(5):
        batch = [
            [{key: torch.from_numpy(v) for key, v in entry.items()} for entry in part]
            for part in (predictions, targets)
        ]
        for metric in (theirs, ours):
            metric.update(*batch)
    expected, found = theirs.compute(), ours.compute()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value.numpy(), rtol=0, atol=1e-7, err_msg=key)
