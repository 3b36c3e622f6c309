"""Granularity ladder: the merge rules by hand, and the whole ladder against the official evaluators."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovd_bench.metrics.boxes import nms
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import evaluate
from ovd_bench.metrics.hierarchy import Hierarchy, Partition, coco_synsets
from ovd_bench.metrics.ladder import RUNGS, LadderResult, granularity_ladder, merge_ground_truth
from ovd_bench.metrics.protocol import PROTOCOLS, RECALL_THRESHOLDS, Protocol
from ovd_bench.tests.oracles import ground_truth, predictions, run_coco, run_lvis
from ovd_bench.tests.values import number

Document = dict[str, Any]
Records = list[dict[str, Any]]


def partition(*cluster: int) -> Partition:
    return Partition(np.array(cluster, np.int32), tuple(f"cluster {c}" for c in range(max(cluster) + 1)))


# ---------------------------------------------------------------- merge rules by hand


def merged_lists(
    cluster: tuple[int, ...], present: list[int], neg: list[int], not_exhaustive: list[int]
) -> tuple[list[int], list[int]]:
    """Clusters (0 … C-1) listed absent and not exhaustive after merging, in one image with classes 0 … K-1."""
    document = {
        "categories": [{"id": k, "name": str(k), "frequency": "f"} for k in range(len(cluster))],
        "images": [{"id": 7, "neg_category_ids": neg, "not_exhaustive_category_ids": not_exhaustive}],
        "annotations": [
            {"id": i + 1, "image_id": 7, "category_id": k, "bbox": [50 * i, 0, 20, 20], "area": 400}
            for i, k in enumerate(present)
        ],
    }
    merged = merge_ground_truth(ground_truth(document), partition(*cluster), PROTOCOLS["lvis"])
    assert sorted(set(merged.class_index.tolist())) == sorted({cluster[k] for k in present})
    return sorted(merged.neg[0].tolist()), sorted(merged.not_exhaustive[0].tolist())


@pytest.mark.parametrize(
    ("present", "neg", "not_exhaustive", "expected_neg", "expected_not_exhaustive"),
    [
        ([], [0, 1], [], [0], []),  # all members absent: verified negative
        ([], [0], [], [], []),  # one member unknown: the cluster is unknown
        ([0], [1], [], [], []),  # one present, the other absent: positive and exhaustive
        ([0, 1], [], [], [], []),  # both present
        ([0], [], [], [], [0]),  # the other member may be there unannotated
        ([0], [1], [0], [], [0]),  # the present member is not exhaustive
        ([0, 1], [], [1], [], [0]),  # so is one of two
        ([0], [], [1], [], [0]),
        ([], [0], [1], [], []),  # neither present nor negative: the entry has nothing to apply to
        ([], [0, 1], [1], [0], [0]),  # a file that contradicts itself: lvis-api ignores detections of class 1 too
        ([0], [0, 1], [], [0], []),  # present and listed absent at once: verified either way
        ([2], [0, 1, 3], [], [0], []),  # clusters do not touch each other
        ([2], [0, 3], [], [], []),
    ],
)
def test_federated_lists_of_a_merged_cluster(
    present: list[int],
    neg: list[int],
    not_exhaustive: list[int],
    expected_neg: list[int],
    expected_not_exhaustive: list[int],
) -> None:
    lists = merged_lists((0, 0, 1, 1), present, neg, not_exhaustive)
    assert lists == (expected_neg, expected_not_exhaustive)


def test_an_annotation_without_area_makes_nothing_present() -> None:
    document = random_document(np.random.default_rng(0), federated=True)
    document["images"] = [{"id": 1, "neg_category_ids": [2], "not_exhaustive_category_ids": []}]
    document["annotations"] = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 0}]
    merged = merge_ground_truth(ground_truth(document), PAIRS, PROTOCOLS["lvis"])
    assert (merged.neg[0].tolist(), merged.not_exhaustive[0].tolist()) == ([], [])


def test_frequency_of_a_cluster_is_its_most_frequent_members() -> None:
    gt = ground_truth(random_document(np.random.default_rng(0), federated=True))
    gt = replace(gt, categories=replace(gt.categories, frequency=("r", "f", "c", "r", "r", "r")))
    assert merge_ground_truth(gt, PAIRS, PROTOCOLS["lvis"]).categories.frequency == ("f", "c", "r")
    gt = replace(gt, categories=replace(gt.categories, frequency=("",) * 6))
    assert merge_ground_truth(gt, PAIRS, PROTOCOLS["lvis"]).categories.frequency == ("", "", "")


def test_nms_of_ground_truth_spares_crowds_and_other_clusters() -> None:
    document = random_document(np.random.default_rng(0), federated=False)
    same = {"image_id": 1, "bbox": [10, 10, 40, 40], "area": 1600}
    labels = [(1, 1), (2, 1), (3, 0), (1, 0), (2, 0), (4, 0)]  # (class, crowd)
    document["annotations"] = [
        {"id": i, "category_id": label, "iscrowd": crowd, **same} for i, (label, crowd) in enumerate(labels)
    ]
    merged = merge_ground_truth(ground_truth(document), PAIRS, PROTOCOLS["coco"])
    assert merged.ann_ids.tolist() == [0, 1, 2, 3]


def test_cap_applies_to_raw_predictions_once() -> None:
    """Two strong boxes of a class nobody asked for use up a budget of two; merging must not bring the third back."""
    document = random_document(np.random.default_rng(0), federated=False)
    document["annotations"] = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "area": 2500}]
    far = [[200, 200, 50, 50], [300, 300, 50, 50]]
    records = [{"image_id": 1, "category_id": 999, "score": 0.9, "bbox": box} for box in far]
    records.append({"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [0, 0, 50, 50]})
    gt, hierarchy = ground_truth(document), Hierarchy(None, None, PAIRS)
    for cap, expected in ((2, 0.0), (3, pytest.approx(1.0))):
        ladder = granularity_ladder(gt, predictions(records), Protocol("capped", "lvis", image_cap=cap), hierarchy)
        assert [ladder.value(rung) for rung in ("exact", "super", "loc")] == [expected] * 3
        assert ladder.value("loc", "NR") == expected


# ---------------------------------------------------------------- against the official evaluators

PAIRS = partition(0, 0, 1, 1, 2, 2)
HALVES = partition(0, 0, 0, 0, 1, 1)
HIERARCHY = Hierarchy(None, PAIRS, HALVES)
CLUSTERS = {"exact": (0, 1, 2, 3, 4, 5), "basic": (0, 0, 1, 1, 2, 2), "super": (0, 0, 0, 0, 1, 1), "loc": (0,) * 6}


def random_document(rng: np.random.Generator, federated: bool, images: int = 8) -> Document:
    """Six classes with ids 1 … 6 and boxes on a coarse grid, so that equal IoU and duplicates are common."""
    document: Document = {
        "categories": [{"id": k + 1, "name": f"class {k}", "frequency": "rrccff"[k]} for k in range(6)],
        "images": [{"id": i + 1, "height": 400, "width": 400} for i in range(images)],
        "annotations": [],
    }
    for image in document["images"]:
        if federated:
            listed = rng.permutation(6) + 1
            image["neg_category_ids"] = listed[: rng.integers(0, 6)].tolist()
            image["not_exhaustive_category_ids"] = rng.choice(6, rng.integers(0, 2)).__add__(1).tolist()
        for _ in range(rng.integers(0, 6)):
            x, y, w, h = (int(v) * 10 for v in (*rng.integers(0, 6, 2), *rng.integers(1, 8, 2)))
            box = {"id": len(document["annotations"]) + 1, "image_id": image["id"], "bbox": [x, y, w, h]}
            box |= {"category_id": int(rng.integers(1, 7)), "area": float(w * h) * rng.choice([0.5, 1.0])}
            box["iscrowd"] = int(not federated and rng.random() < 0.1)
            document["annotations"].append(box)
    return document


def random_records(rng: np.random.Generator, document: Document, count: int = 60) -> Records:
    records = []
    for _ in range(count):
        image = int(rng.integers(1, len(document["images"]) + 1))
        truth = [box for box in document["annotations"] if box["image_id"] == image]
        x, y, w, h = (int(v) * 10 for v in (*rng.integers(0, 6, 2), *rng.integers(1, 8, 2)))
        label = int(rng.integers(1, 7))
        if truth and rng.random() < 0.7:
            source = truth[rng.integers(len(truth))]
            x, y, w, h = (int(v + rng.integers(-3, 4)) for v in source["bbox"])
            label = source["category_id"] if rng.random() < 0.5 else label
        records.append(
            {"image_id": image, "category_id": label, "score": int(rng.integers(0, 20)) / 20, "bbox": [x, y, w, h]}
        )
    return records


def slow_iou(a: list[float], b: list[float]) -> float:
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return w * h / (a[2] * a[3] + b[2] * b[3] - w * h) if w > 0 and h > 0 else 0.0


def slow_nms(records: Records) -> Records:
    """Kept records, in file order; a record without score ranks by its place in the file."""
    kept: list[int] = []
    for i in sorted(range(len(records)), key=lambda i: (-records[i].get("score", 0.0), i)):
        rivals = (records[k] for k in kept)
        same = [r for r in rivals if all(r[key] == records[i][key] for key in ("image_id", "category_id"))]
        if all(slow_iou(r["bbox"], records[i]["bbox"]) <= 0.7 for r in same):
            kept.append(i)
    return [records[i] for i in sorted(kept)]


def slow_merge(document: Document, records: Records, cluster: tuple[int, ...]) -> tuple[Document, Records]:
    """The merge rules as sets per image, on documents; category ids 1 … C."""
    members: dict[int, set[int]] = {}
    for k, c in enumerate(cluster):
        members.setdefault(c + 1, set()).add(k + 1)
    merged: Document = {"categories": [], "images": [], "annotations": []}
    for c, ids in sorted(members.items()):
        letters = [row["frequency"] for row in document["categories"] if row["id"] in ids]
        merged["categories"].append({"id": c, "name": str(c), "frequency": min(letters, key="fcr".index)})
    for image in document["images"]:
        image = dict(image)
        if "neg_category_ids" in image:
            truth = [box for box in document["annotations"] if box["image_id"] == image["id"]]
            pos, neg = {box["category_id"] for box in truth}, set(image["neg_category_ids"])
            partial = set(image["not_exhaustive_category_ids"])
            image["neg_category_ids"] = [c for c, ids in members.items() if ids <= neg]
            image["not_exhaustive_category_ids"] = [
                c for c, ids in members.items() if ids & partial or (ids & pos and not ids <= pos | neg)
            ]
        merged["images"].append(image)
    boxes = [{**box, "category_id": cluster[box["category_id"] - 1] + 1} for box in document["annotations"]]
    crowd = [box for box in boxes if box["iscrowd"]]
    regular = slow_nms([box for box in boxes if not box["iscrowd"]])
    merged["annotations"] = sorted(crowd + regular, key=lambda box: box["id"])
    return merged, slow_nms([{**r, "category_id": cluster[r["category_id"] - 1] + 1} for r in records])


def slow_cap(records: Records, keys: tuple[str, ...], cap: int) -> Records:
    kept: list[int] = []
    count: dict[tuple[int, ...], int] = {}
    for i in sorted(range(len(records)), key=lambda i: (-records[i]["score"], i)):
        key = tuple(records[i][k] for k in keys)
        count[key] = count.get(key, 0) + 1
        if count[key] <= cap:
            kept.append(i)
    return [records[i] for i in sorted(kept)]


def lvis_api(document: Document, records: Records) -> dict[str, float | None]:
    results = run_lvis(document, records).results
    return {name: None if results[name] == -1 else results[name] for name in ("AP", "AP50", "APr", "APc", "APf")}


def coco_api(document: Document, records: Records) -> float | None:
    ap = run_coco(document, records).stats[0]
    return None if ap == -1 else float(ap)


@pytest.mark.parametrize("seed", range(12))
def test_ladder_equals_lvis_api_on_documents_merged_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    document = random_document(rng, federated=True)
    records = random_records(rng, document)
    protocol = Protocol("capped", "lvis", image_cap=5)
    ladder = granularity_ladder(ground_truth(document), predictions(records), protocol, HIERARCHY)
    capped = slow_cap(records, ("image_id",), 5)
    assert len(capped) < len(records)
    assert statistics(ladder, "exact") == lvis_api(document, capped)
    assert ladder.exact_nms == lvis_api(*slow_merge(document, capped, CLUSTERS["exact"]))
    for rung in ("basic", "super", "loc"):
        assert statistics(ladder, rung) == lvis_api(*slow_merge(document, capped, CLUSTERS[rung])), rung


@pytest.mark.parametrize("seed", range(12))
def test_ladder_equals_lvis_api_with_a_cap_per_class(seed: int) -> None:
    rng = np.random.default_rng(seed)
    document = random_document(rng, federated=True)
    records = random_records(rng, document)
    protocol = Protocol("capped", "lvis", class_cap=6)
    ladder = granularity_ladder(ground_truth(document), predictions(records), protocol, HIERARCHY)
    capped = slow_cap(records, ("category_id",), 6)
    assert statistics(ladder, "exact") == lvis_api(document, capped)
    assert statistics(ladder, "super") == lvis_api(*slow_merge(document, capped, CLUSTERS["super"]))


def statistics(ladder: LadderResult, rung: str) -> dict[str, float | None]:
    return {name: ladder.value(rung, name) for name in ladder.exact_nms}


@pytest.mark.parametrize("seed", range(12))
def test_ladder_equals_pycocotools_on_documents_merged_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    document = random_document(rng, federated=False)
    records = random_records(rng, document)
    protocol = Protocol("capped", "coco", max_dets=(1, 2))
    ladder = granularity_ladder(ground_truth(document), predictions(records), protocol, HIERARCHY)
    capped = slow_cap(records, ("image_id", "category_id"), 2)
    assert len(capped) < len(records)
    assert ladder.value("exact") == coco_api(document, capped)
    assert ladder.exact_nms["AP"] == coco_api(*slow_merge(document, capped, CLUSTERS["exact"]))
    for rung in ("basic", "super", "loc"):
        assert ladder.value(rung) == coco_api(*slow_merge(document, capped, CLUSTERS[rung])), rung


def slow_named_recall(document: Document, records: Records, cluster: tuple[int, ...]) -> float | None:
    boxes = [box for box in document["annotations"] if not box["iscrowd"]]
    single = slow_nms([{**r, "label": r["category_id"], "category_id": 0} for r in records])
    label: dict[int, int] = {}
    for record in sorted(single, key=lambda r: -r["score"]):
        best = 0.5
        choice = None
        for g, box in enumerate(boxes):
            overlap = slow_iou(record["bbox"], box["bbox"])
            if box["image_id"] == record["image_id"] and g not in label and overlap >= best:
                best, choice = overlap, g
        if choice is not None:
            label[choice] = record["label"]
    shares: dict[int, list[bool]] = {}
    for g, box in enumerate(boxes):
        right = g in label and cluster[label[g] - 1] == cluster[box["category_id"] - 1]
        shares.setdefault(box["category_id"], []).append(right)
    return float(np.mean([np.mean(shares[k]) for k in sorted(shares)])) if shares else None


@pytest.mark.parametrize("seed", range(24))
def test_named_recall_equals_plain_python_and_never_falls_along_the_ladder(seed: int) -> None:
    rng = np.random.default_rng(seed)
    document = random_document(rng, federated=seed % 2 == 0)
    records = random_records(rng, document)
    protocol = PROTOCOLS["lvis" if seed % 2 == 0 else "coco"]
    ladder = granularity_ladder(ground_truth(document), predictions(records), protocol, HIERARCHY)
    found = [ladder.value(rung, "NR") for rung in CLUSTERS]
    assert found == [slow_named_recall(document, records, cluster) for cluster in CLUSTERS.values()]
    assert found == sorted(number(value) for value in found)


def test_undefined_rungs_and_undefined_numbers_are_none() -> None:
    document = random_document(np.random.default_rng(3), federated=True)
    records = random_records(np.random.default_rng(3), document)
    ladder = granularity_ladder(
        ground_truth(document), predictions(records), PROTOCOLS["lvis"], Hierarchy(None, None, None)
    )
    assert ladder.rungs["syn"] is ladder.rungs["basic"] is ladder.rungs["super"] is None
    assert ladder.semantic_gap is None
    assert ladder.metrics["ladder/AP_syn"] is ladder.metrics["ladder/clusters_super"] is None
    assert ladder.metrics["ladder/clusters_loc"] == 1
    lost = number(ladder.metrics["ladder/AP_loc"]) - number(ladder.metrics["ladder/AP_exact"])
    assert ladder.metrics["ladder/naming_loss"] == lost
    assert set(ladder.metrics) == set(
        granularity_ladder(ground_truth(document), predictions(records), PROTOCOLS["lvis"], HIERARCHY).metrics
    )


def test_hierarchy_of_another_vocabulary_is_refused() -> None:
    document = random_document(np.random.default_rng(3), federated=True)
    records = random_records(np.random.default_rng(3), document)
    with pytest.raises(DataError, match="super covers 2 classes, annotations have 6"):
        granularity_ladder(
            ground_truth(document), predictions(records), PROTOCOLS["lvis"], Hierarchy(None, None, partition(0, 1))
        )


def test_no_detections_score_zero_and_no_ground_truth_is_undefined() -> None:
    document = random_document(np.random.default_rng(0), federated=False)
    nothing = predictions(random_records(np.random.default_rng(0), document)).take(np.arange(0))
    ladder = granularity_ladder(ground_truth(document), nothing, PROTOCOLS["coco"], HIERARCHY)
    assert [ladder.value(rung, name) for rung in CLUSTERS for name in ("AP", "NR")] == [0.0] * 8
    document["annotations"] = []
    ladder = granularity_ladder(ground_truth(document), nothing, PROTOCOLS["coco"], HIERARCHY)
    assert [ladder.value(rung, name) for rung in CLUSTERS for name in ("AP", "NR")] == [None] * 8


def test_ap_loc_on_federated_data_is_class_agnostic_recall() -> None:
    rng = np.random.default_rng(5)
    document = random_document(rng, federated=True, images=40)
    for image in document["images"]:
        image["neg_category_ids"] = []  # so that, as with 1,203 classes, no image has all classes verified
    gt, detections = ground_truth(document), predictions(random_records(rng, document, 300))
    loc = granularity_ladder(gt, detections, PROTOCOLS["lvis"], HIERARCHY).rungs["loc"]
    assert loc is not None
    assert loc.exhaustive_share == 0.0

    agnostic = replace(detections, category_id=np.ones(len(detections), np.int32))
    single = nms(agnostic.image_id, agnostic.boxes_xyxy(), agnostic.score, 0.7)
    merged = merge_ground_truth(gt, Partition.single(gt.categories), PROTOCOLS["lvis"])
    recall = evaluate(merged, agnostic.take(single), PROTOCOLS["lvis"]).recall[:, 0, 0]
    assert 0 < recall.min() < recall.max() < 1
    reached = [np.mean(value >= RECALL_THRESHOLDS) for value in recall]
    assert loc.statistics["AP"] == pytest.approx(np.mean(reached), abs=1e-12)


# ---------------------------------------------------------------- real files


def test_real_coco_ladder_equals_pycocotools(real_data: Path) -> None:
    document = json.loads((real_data / "faster_coco_eval" / "instances_val2014_100.json").read_text())
    document["categories"].sort(key=lambda row: row["id"])
    records = json.loads((real_data / "cocoapi" / "instances_val2014_fakebbox100_results.json").read_text())
    table = json.loads((real_data / "lvis-api" / "coco_to_synset.json").read_text())
    gt = ground_truth(document)
    hierarchy = Hierarchy.build(gt.categories, synset=coco_synsets(gt.categories, table))
    ladder = granularity_ladder(gt, predictions(records), PROTOCOLS["coco"], hierarchy)
    assert ladder.value("exact") == coco_api(document, records)
    assert [ladder.metrics[f"ladder/clusters_{rung}"] for rung in RUNGS] == [80, 80, None, 12, 1]
    assert {name: ladder.value("syn", name) for name in ladder.exact_nms} == ladder.exact_nms

    # slow_merge expects class ids 1 … K and a frequency letter
    number = {row["id"]: k + 1 for k, row in enumerate(document["categories"])}
    document["categories"] = [{**row, "id": number[row["id"]], "frequency": "f"} for row in document["categories"]]
    for row in (*document["annotations"], *records):
        row["category_id"] = number[row["category_id"]]
    assert hierarchy.super is not None
    for rung, cluster in (("super", tuple(hierarchy.super.cluster.tolist())), ("loc", (0,) * 80)):
        assert ladder.value(rung) == coco_api(*slow_merge(document, records, cluster))
