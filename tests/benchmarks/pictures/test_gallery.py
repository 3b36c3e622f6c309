"""Operating points, qualities and the choice of images on sets where they can be worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.pictures.gallery.matched_run import (
    MatchedRun,
    badness,
    best_f1,
    candidates_of,
    choose,
    choose_disagreed,
    match_run,
)
from ovd_bench.benchmarks.pictures.gallery.pictures import gallery
from ovd_bench.benchmarks.pictures.gallery.runs import find_benchmark, find_runs, gallery_data
from ovd_bench.benchmarks.pictures.gallery.select import select_images
from ovd_bench.benchmarks.store.run_names import find_run, split_specs
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.protocol import PROTOCOLS
from ovd_bench.metrics.types import GroundTruth, Predictions
from ovd_bench.tests.benchmarks.board.made_runs import make_benchmark, make_results, make_run

BOX = [10.0, 10.0, 20.0, 20.0]
AWAY = [60.0, 60.0, 20.0, 20.0]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    return make_results(folder / "results", make_benchmark(folder / "data"))


def _truth(path: Path, boxes: list[tuple[int, int]], images: int, **extra: Any) -> GroundTruth:
    """Every (image, class) has one box at the same place; three classes; all others verified absent."""
    present = {image: {label for i, label in boxes if i == image} for image in range(1, images + 1)}
    rows = [
        {
            "id": image,
            "width": 100,
            "height": 100,
            "file_name": f"{image}.png",
            "neg_category_ids": sorted({1, 2, 3} - labels),
            "not_exhaustive_category_ids": [],
        }
        | extra
        for image, labels in present.items()
    ]
    annotations = [
        {"id": i + 1, "image_id": image, "category_id": label, "bbox": BOX, "area": 400.0}
        for i, (image, label) in enumerate(boxes)
    ]
    categories = [{"id": k, "name": f"c{k}", "frequency": "f"} for k in (1, 2, 3)]
    path.write_text(json.dumps({"images": rows, "annotations": annotations, "categories": categories}))
    return read_ground_truth(path)


def _found(*rows: tuple[int, int, float, list[float]]) -> Predictions:
    image, label, score, boxes = zip(*rows, strict=True)
    return Predictions.from_boxes(image, label, np.array(score, np.float64), np.array(boxes, np.float64))


def _matched(gt: GroundTruth, predictions: Predictions, **options: Any) -> MatchedRun:
    return match_run("run", gt, predictions, PROTOCOLS["lvis"], **options)


def test_threshold_is_where_f1_is_highest_by_trying_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        n = int(rng.integers(1, 30))
        score = np.round(rng.random(n), 1)
        right = rng.random(n) < 0.5
        excused = ~right & (rng.random(n) < 0.2)
        positives = int(right.sum() + rng.integers(0, 5))
        threshold, f1 = best_f1(score, right, excused, positives)
        if positives == 0:
            assert (threshold, f1) == (np.inf, None)
            continue
        tried = {}
        for candidate in np.unique(score):
            shown = score >= candidate
            tp, fp = int((shown & right).sum()), int((shown & ~right & ~excused).sum())
            tried[float(candidate)] = 2 * tp / (2 * tp + fp + positives - tp)
        best = max(tried.values())
        assert f1 == pytest.approx(best)
        if best > 0:
            assert threshold == max(s for s, value in tried.items() if value == pytest.approx(best))
        else:
            assert threshold == np.inf


def test_right_wrong_and_missed_at_the_operating_point(tmp_path: Path) -> None:
    gt = _truth(tmp_path / "gt.json", [(1, 1), (2, 2), (3, 1)], 4)
    run = _matched(gt, _found((1, 1, 0.9, BOX), (2, 1, 0.8, BOX), (2, 2, 0.7, BOX), (3, 1, 0.1, AWAY)))
    assert run.threshold == 0.7
    assert run.f1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    # image 1 right; image 2 one right, one wrong; image 3 missed (its detection is below); image 4 rightly empty
    assert run.quality(4).tolist() == pytest.approx([1.0, 2 / 3, 0.0, 1.0])


def test_unverified_classes_are_not_shown_and_not_exhaustive_ones_are_not_wrong(tmp_path: Path) -> None:
    unverified = _truth(tmp_path / "a.json", [(1, 1)], 1, neg_category_ids=[])
    run = _matched(unverified, _found((1, 1, 0.9, BOX), (1, 2, 0.95, AWAY)))
    assert len(run.detections) == 1
    open_class = _truth(tmp_path / "b.json", [(1, 1)], 1, not_exhaustive_category_ids=[1])
    run = _matched(open_class, _found((1, 1, 0.9, BOX), (1, 1, 0.95, AWAY)))
    assert run.quality(1).tolist() == [1.0]
    assert run.shown.sum() == 2


def test_images_are_ordered_by_disagreement_and_by_badness(tmp_path: Path) -> None:
    gt = _truth(tmp_path / "gt.json", [(1, 1), (2, 1), (2, 2), (3, 1), (4, 1), (5, 1)], 6)
    both = [(4, 1, 0.9, BOX), (1, 1, 0.9, BOX)]
    a = _matched(gt, _found(*both, (2, 1, 0.9, BOX), (2, 2, 0.9, BOX), (3, 1, 0.9, BOX)))
    b = _matched(gt, _found(*both, (2, 1, 0.9, BOX)))
    candidates = candidates_of([a, b], 6)
    assert candidates.tolist() == [True] * 5 + [False]
    # images 2 and 3 have one disputed object each; F1 differs by 1/3 and by 1
    assert choose_disagreed([a, b], 6, 2, candidates) == [2, 1]
    assert choose_disagreed([a, b], 6, 9, candidates) == [2, 1, 0, 3, 4]
    assert choose(badness([a, b], 6), 3, candidates) == [4, 2, 1]
    with pytest.raises(DataError, match="no image"):
        choose_disagreed([a, b], 6, 1, np.zeros(6, np.bool_))


def test_disagreement_of_many_runs_is_of_objects_and_varied_in_classes(tmp_path: Path) -> None:
    # images 1 to 3: an object of class 1 that half of the runs find; 4: the same of class 2; 5: only one run misses it
    objects = [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)]
    gt = _truth(tmp_path / "gt.json", objects, 5)
    everything = [(image, label, 0.9, BOX) for image, label in objects]
    few = [(5, 2, 0.9, BOX)]
    runs = [_matched(gt, _found(*rows)) for rows in (everything, everything, few, [(1, 1, 0.1, AWAY)])]
    chosen = choose_disagreed(runs, 5, 5, candidates_of(runs, 5))
    assert chosen == [0, 3, 1, 2, 4]  # another class comes before a second image of the same


def test_the_measure_does_not_saturate(tmp_path: Path) -> None:
    """Of eight runs the best and the worst differ by 1 on either image; the runs disagree more on the second."""
    gt = _truth(tmp_path / "gt.json", [(1, 1), (2, 1)], 2)
    one, both = [(1, 1, 0.9, BOX)], [(1, 1, 0.9, BOX), (2, 1, 0.9, BOX)]
    none = [(1, 1, 0.1, AWAY)]
    runs = [_matched(gt, _found(*rows)) for rows in (*[both] * 4, *[one] * 3, none)]
    assert choose_disagreed(runs, 2, 2, candidates_of(runs, 2)) == [1, 0]


def test_a_class_alone_is_judged_at_the_threshold_of_all(tmp_path: Path) -> None:
    gt = _truth(tmp_path / "gt.json", [(1, 1), (2, 2), (3, 2)], 3)
    found = _found((1, 1, 0.9, BOX), (2, 2, 0.8, BOX), (3, 1, 0.5, AWAY))
    run = _matched(gt, found, class_filter=1)
    assert run.threshold == _matched(gt, found).threshold
    assert run.quality(3).tolist() == [1.0, 1.0, 0.0]
    assert candidates_of([run], 3).tolist() == [False, True, True]


def test_images_a_partial_run_leaves_out_do_not_count(tmp_path: Path) -> None:
    gt = _truth(tmp_path / "gt.json", [(1, 1), (2, 1)], 2)
    run = _matched(gt, _found((1, 1, 0.9, BOX)), images=np.array([True, False]))
    assert run.f1 == 1.0
    assert len(run.truth) == 1


def test_a_run_without_anything_right_shows_nothing(tmp_path: Path) -> None:
    gt = _truth(tmp_path / "gt.json", [(1, 1)], 1)
    run = _matched(gt, _found((1, 1, 0.9, AWAY)))
    assert (run.threshold, run.f1, run.finite_threshold) == (np.inf, 0.0, None)
    assert not run.shown.any()
    assert run.missed.all()


def test_gallery_has_a_row_per_image_and_a_column_per_run(tmp_path: Path) -> None:
    toy = make_benchmark(tmp_path / "data", images=6)
    for name, seed in (("a", 1), ("b", 2)):
        make_run(tmp_path / "r", toy, name, seed=seed)
    runs = find_runs(["a", "b"], tmp_path / "r")
    setting = gallery_data(runs, find_benchmark(runs, tmp_path))
    matched = setting.match_runs(runs)
    positions, how = select_images(setting, matched, None, 4)
    assert "some of the runs find and others do not" in how
    assert len(positions) == 4
    picture = gallery(setting.gt, matched, positions, setting.read, cell=96)
    one = gallery(setting.gt, matched, positions[:1], setting.read, cell=96)
    assert one.width > 3 * 96
    assert picture.size == (one.width, 4 * (one.height - 8) + 8)
    assert setting.unreadable == []


def test_an_unreadable_image_is_grey_and_noted(tmp_path: Path) -> None:
    toy = make_benchmark(tmp_path / "data", images=4)
    folder = make_run(tmp_path / "r", toy, "a")
    (toy.images / "2.png").write_bytes(b"nothing")
    Image.new("RGB", (5, 5)).save(toy.images / "3.png")
    runs = find_runs([str(folder)], tmp_path)
    setting = gallery_data(runs, find_benchmark(runs, tmp_path))
    assert (setting.read(1) == 128).all()
    assert setting.read(2).shape == (72, 96, 3)
    assert [line.split(":")[0] for line in setting.unreadable] == [f"image {i} is shown grey" for i in (2, 3)]


def test_runs_are_found_by_name_or_path_and_ambiguity_is_refused(results: Path) -> None:
    gamma = find_run("gamma", results)
    assert find_run(str(gamma), results) == find_run(str(gamma / "result.json"), results) == gamma
    assert find_run("gamma@aaaaaaaa", results, "toy") == gamma
    with pytest.raises(DataError, match="'alpha' is 3 runs"):
        find_run("alpha", results)
    with pytest.raises(DataError, match="no run 'nobody'"):
        find_run("nobody", results)
    with pytest.raises(DataError, match="is not a run"):
        find_run(str(results), results)
    with pytest.raises(DataError, match="not on this machine"):
        find_runs(["delta"], results)
    assert split_specs(["a, b", "c"]) == ["a", "b", "c"]
    for wrong in ([" , "], ["a,a"]):
        with pytest.raises(DataError):
            split_specs(wrong)


def test_names_of_shown_runs_are_unique(results: Path) -> None:
    folders = sorted(str(folder) for folder in (results / "toy").glob("lvis*/alpha@*"))
    names = [run.name for run in find_runs(folders, results)]
    assert len(set(names)) == 3


def test_runs_on_other_data_or_under_other_rules_do_not_meet(results: Path, tmp_path: Path) -> None:
    toy = make_benchmark(tmp_path / "data", seed=5)
    mine = make_run(tmp_path / "r", toy, "mine")
    both = find_runs([str(mine), "gamma"], results)
    with pytest.raises(DataError, match="gamma: was made on other annotations"):
        gallery_data(both, toy)
    folders = sorted((results / "toy").glob("lvis*/alpha@aaaaaaaa"))
    kinds = find_runs([str(folder) for folder in folders], results)
    place = find_benchmark(kinds, tmp_path)
    with pytest.raises(DataError, match="choose the rules"):
        gallery_data(kinds, place)
    assert gallery_data(kinds, place, "lvis").protocol.name == "lvis"
    with pytest.raises(DataError, match="unknown protocol"):
        gallery_data(kinds, place, "other")


def test_a_prediction_file_needs_a_benchmark(results: Path, tmp_path: Path) -> None:
    file = next(results.glob("toy/*/gamma@*/predictions/*.arrow"))
    runs = find_runs([str(file)], results)
    with pytest.raises(DataError, match="needs its benchmark"):
        find_benchmark(runs, tmp_path)
    partial = find_runs(["part"], results)
    setting = gallery_data(partial, find_benchmark(partial, tmp_path))
    assert setting.covered.sum() == len(setting.covered) // 2
    assert setting.class_position("RED STAR") == 0
    with pytest.raises(DataError, match="no class is called 'dragon'"):
        setting.class_position("dragon")
    assert setting.image_positions([3, 1]) == [2, 0]
    with pytest.raises(DataError, match="image 999"):
        setting.image_positions([999])
