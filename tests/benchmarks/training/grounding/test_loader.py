"""Batches from files: their content, which depends only on their number."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ovd_bench.benchmarks.data.odvg.index import OdvgFile
from ovd_bench.benchmarks.training.grounding.loader import GroundingData
from ovd_bench.benchmarks.training.grounding.sources import open_source
from ovd_bench.detectors.captions import SEPARATORS
from ovd_bench.grounding_dino_jt.training.batch import TrainingBatch
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.training.grounding.toy import (
    NAMES,
    TOKENIZER,
    corners,
    extent,
    named,
    toy_data,
    toy_settings,
    write_toy,
)

CROPPED: dict[str, Any] = {
    "sizes": [40, 64],
    "longest": 100,
    "crop": {"probability": 0.7, "sizes": [40], "smallest": 24, "largest": 40},
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy on disk."""
    return write_toy(tmp_path_factory.mktemp("toy"))


def take(data: GroundingData, count: int, first: int = 0, rank: int = 0, world: int = 1) -> list[TrainingBatch]:
    """The next batches; their workers have ended."""
    with data.batches(first, rank=rank, world=world) as batches:
        return list(itertools.islice(batches, count))


def assert_same(one: TrainingBatch, other: TrainingBatch) -> None:
    """Equal in every array."""
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.sizes, other.sizes)
    np.testing.assert_array_equal(one.tokens.ids, other.tokens.ids)
    np.testing.assert_array_equal(one.tokens.real, other.tokens.real)
    assert len(one.targets) == len(other.targets)
    for first, second in zip(one.targets, other.targets, strict=True):
        np.testing.assert_array_equal(first.boxes, second.boxes)
        np.testing.assert_array_equal(first.phrases, second.phrases)
        np.testing.assert_array_equal(first.token_map, second.token_map)


@pytest.mark.parametrize("changes", [{}, CROPPED])
def test_boxes_hold_what_their_tokens_say(toy: Path, changes: dict[str, Any]) -> None:
    found = set()
    for batch in take(toy_data(toy, "od vg", **changes), 24):
        rows = zip(batch.images, batch.sizes.tolist(), batch.tokens.ids, batch.tokens.real, batch.targets, strict=True)
        for image, (height, width), ids, real, targets in rows:
            assert not image[height:].any()
            assert not image[:, width:].any()
            assert targets.boxes.dtype == np.float32
            assert targets.phrases.dtype == np.int64
            assert targets.token_map.shape == (len(targets), len(ids))
            assert targets.token_map.any(axis=1).all()
            assert not targets.token_map[:, ~real | np.isin(ids, list(SEPARATORS))].any()
            assert (targets.boxes > 0).all()
            assert (targets.boxes <= 1).all()
            for name, box in zip(named(ids, targets), corners(targets, width, height), strict=True):
                colour = next(word for word in NAMES if word in name)
                np.testing.assert_allclose(box, extent(image, colour), atol=2.5)
                found.add(name)
    plain = {"red", "green", "blue"}
    assert found >= plain | {f"a red one the {side}" for side in ("left", "right")} | {"a green one", "a blue one"}


def test_left_is_left_in_mirrored_images_too(toy: Path) -> None:
    sides = set()
    for batch in take(toy_data(toy, "vg", batch=1), 24):
        text = TOKENIZER.inner.decode(batch.tokens.ids[0].tolist())
        width = int(batch.sizes[0, 1])
        red = corners(batch.targets[0], width, int(batch.sizes[0, 0]))[0]
        side = "left" if red[2] <= width / 2 else "right"
        assert f"a red one on the {side} and" in text
        sides.add(side)
    assert sides == {"left", "right"}


def test_an_epoch_has_every_image_once(toy: Path) -> None:
    data = toy_data(toy, flip=0, batch=4)
    assert data.batches_per_epoch == 3
    originals = [np.asarray(Image.open(toy / f"{i}.png")) for i in range(12)]
    for epoch in range(2):
        seen = []
        for batch in take(data, 3, first=3 * epoch):
            for image, (height, width) in zip(batch.images, batch.sizes, strict=True):
                pixels = image[:height, :width]
                seen += [i for i, original in enumerate(originals) if np.array_equal(pixels, original)]
        assert sorted(seen) == list(range(12))


def test_weights_mix_sources(toy: Path) -> None:
    settings = toy_settings(toy, "od vg")
    heavy = settings.sources[0].model_copy(update={"weight": 2.0}), settings.sources[1]
    data = GroundingData([open_source(source) for source in heavy], settings, TOKENIZER, batch=3, seed=0)
    assert data.batches_per_epoch == 12  # (2 x 12 + 12) / 3
    captions = [row for batch in take(data, 12) for row in TOKENIZER.inner.decode_batch(batch.tokens.ids.tolist())]
    assert sum("one" in caption for caption in captions) == 12
    assert sum("one" not in caption for caption in captions) == 24


def test_batches_do_not_depend_on_where_a_training_goes_on(toy: Path) -> None:
    whole = take(toy_data(toy, "od vg", batch=5, **CROPPED), 9)
    for first in (8, 3):
        for one, other in zip(
            take(toy_data(toy, "od vg", batch=5, **CROPPED), 9 - first, first), whole[first:], strict=True
        ):
            assert_same(one, other)
    with pytest.raises(AssertionError):
        assert_same(take(toy_data(toy, "od vg", batch=5, seed=1, **CROPPED), 1)[0], whole[0])


def test_the_same_record_is_varied_anew_in_each_epoch(toy: Path) -> None:
    data = toy_data(toy, batch=12, aspect_buckets=False, sizes=list(range(32, 65)))
    first, second = take(data, 2)
    assert sorted(map(tuple, first.sizes.tolist())) != sorted(map(tuple, second.sizes.tolist()))


def test_parts_of_a_batch_are_together_the_whole(toy: Path) -> None:
    data = toy_data(toy, "od vg", batch=6, **CROPPED)
    for whole, *parts in zip(take(data, 3), *(take(data, 3, rank=rank, world=3) for rank in range(3)), strict=True):
        assert [len(part) for part in parts] == [2, 2, 2]
        for row in range(6):
            part, place = parts[row // 2], row % 2
            height, width = whole.sizes[row]
            assert part.sizes[place].tolist() == [height, width]
            np.testing.assert_array_equal(part.images[place, :height, :width], whole.images[row, :height, :width])
            columns = int(whole.tokens.real[row].sum())
            np.testing.assert_array_equal(part.tokens.ids[place, :columns], whole.tokens.ids[row, :columns])
            np.testing.assert_array_equal(part.targets[place].boxes, whole.targets[row].boxes)
    with pytest.raises(DataError, match="batch is 6, which 4 processes cannot share"):
        data.batches(world=4)


def test_kept_images_change_nothing(toy: Path) -> None:
    plain, kept = (take(toy_data(toy, "od vg", cache_images=cache), 20) for cache in (False, True))
    for one, other in zip(plain, kept, strict=True):
        assert_same(one, other)


def test_rare_classes_are_seen_more_often(toy: Path) -> None:
    # red 12 of 12 images, green 8, blue 4: with 0.75, green images count sqrt(1.125) and blue ones sqrt(2.25)
    data = toy_data(toy, repeat_threshold=0.75, batch=1)
    assert data.batches_per_epoch == int(8 * 1.125**0.5 + 4 * 1.5)


def test_boxes_without_a_place_are_counted(toy: Path) -> None:
    data = toy_data(toy, "od", max_tokens=8, num_negatives=0)  # all names fit
    with data.batches() as batches:
        assert not sum(targets.dropped for targets in next(batches).targets)
    with toy_data(toy, "vg", max_tokens=8).batches() as batches:  # "a red one on the ."
        taken = [next(batches) for _ in range(4)]
        assert sum(targets.dropped for batch in taken for targets in batch.targets) == 8
        assert all(len(targets) == 1 for batch in taken for targets in batch.targets)


@pytest.mark.parametrize("fault", ["missing", "damaged", "size", "escape"])
def test_a_bad_image_stops_the_training_with_one_line(tmp_path: Path, fault: str) -> None:
    folder = write_toy(tmp_path / "toy")
    bad = folder / "5.png"
    if fault == "missing":
        bad.unlink()
    elif fault == "damaged":
        bad.write_bytes(bad.read_bytes()[:60])
    elif fault == "size":
        Image.new("RGB", (5, 5)).save(bad)
    else:
        (folder / "od.jsonl").write_text((folder / "od.jsonl").read_text().replace("5.png", "../../etc/passwd"))
    data = toy_data(folder, batch=12, aspect_buckets=False)
    words = "leaves the folder" if fault == "escape" else r"5\.png"
    with pytest.raises(DataError, match=rf"od\.jsonl: record 6: .*{words}") as caught:
        take(data, 1)
    assert "\n" not in str(caught.value)


def test_bad_sources_are_named(toy: Path, tmp_path: Path) -> None:
    source = toy_settings(toy).sources[0]
    with pytest.raises(DataError, match=r"od\.jsonl: holds label 2, but no label_map is given"):
        open_source(source.model_copy(update={"label_map": None}))
    (tmp_path / "two.json").write_text(json.dumps({"0": "red", "1": "green"}))
    with pytest.raises(DataError, match=r"holds label 2, but .*two\.json has 2 classes"):
        open_source(source.model_copy(update={"label_map": str(tmp_path / "two.json")}))
    with pytest.raises(DataError, match="nowhere: is not a folder of images"):
        open_source(source.model_copy(update={"images": str(tmp_path / "nowhere")}))
    (tmp_path / "mute.json").write_text(json.dumps({"0": "red", "1": "\u200b", "2": "blue"}))
    settings = toy_settings(toy)
    mute = open_source(source.model_copy(update={"label_map": str(tmp_path / "mute.json")}))
    with pytest.raises(DataError, match=r"od\.jsonl: class name .* has no word"):
        GroundingData([mute], settings, TOKENIZER, batch=3, seed=0)
    with pytest.raises(DataError, match="batch of 40 images needs"):
        toy_data(toy, batch=40)


def test_phrases_without_spans_are_found_in_the_caption(tmp_path: Path) -> None:
    folder = write_toy(tmp_path / "toy")
    rows = [json.loads(line) for line in (folder / "vg.jsonl").read_text().splitlines()]
    for row in rows:
        for region in row["grounding"]["regions"]:
            del region["tokens_positive"]
    (folder / "vg.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for batch in take(toy_data(folder, "vg"), 3):
        for ids, targets in zip(batch.tokens.ids, batch.targets, strict=True):
            assert named(ids, targets)[0] == "red"
            assert named(ids, targets)[1] in NAMES


def test_a_record_without_boxes_is_learned_from_as_well(tmp_path: Path) -> None:
    folder = write_toy(tmp_path / "toy")
    rows = [json.loads(line) for line in (folder / "od.jsonl").read_text().splitlines()]
    rows[3]["detection"]["instances"] = []
    (folder / "od.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    batch = take(toy_data(folder, batch=12, aspect_buckets=False), 1)[0]
    assert sorted(len(targets) for targets in batch.targets) == [0, *[2] * 11]
    empty = next(targets for targets in batch.targets if not len(targets))
    assert empty.boxes.shape == (0, 4)
    assert empty.token_map.shape == (0, batch.tokens.ids.shape[1])
    assert len(OdvgFile.open(folder / "od.jsonl")) == 12
