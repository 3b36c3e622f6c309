"""Value types refuse what is wrong, naming the field."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.types import Detections, DetectorError, Grounding, Image, Vocabulary

PIXELS = np.zeros((4, 6, 3), np.uint8)
IMAGE = Image(7, PIXELS)


def test_image_knows_its_size() -> None:
    assert (IMAGE.width, IMAGE.height) == (6, 4)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 6, 3), np.float32), np.zeros((4, 6), np.uint8), np.zeros((4, 6, 4), np.uint8)],
)
def test_image_is_uint8_rgb(pixels: Any) -> None:
    with pytest.raises(DetectorError, match=r"Image 7: pixels must be uint8 \(H, W, 3\)"):
        Image(7, pixels)


@pytest.mark.parametrize("shape", [(0, 6, 3), (4, 0, 3)])
def test_image_has_a_pixel(shape: tuple[int, ...]) -> None:
    with pytest.raises(DetectorError, match="at least one pixel"):
        Image(7, np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"ids": (), "names": ()}, "is empty"),
        ({"ids": (1, 2), "names": ("a",)}, "names has 1 rows, ids has 2"),
        ({"ids": (1, 2), "names": ()}, "names has 0 rows, ids has 2"),
        ({"ids": (1, 2, 1), "names": ("a", "b", "c")}, "ids contains 1 twice"),
        ({"ids": (1, 2**31), "names": ("a", "b")}, "2147483648, which does not fit 32 bits"),
        ({"ids": (-(2**31) - 1,), "names": ("a",)}, "does not fit 32 bits"),
        ({"ids": (1, 2), "names": ("a", " \t")}, "category 2 has an empty name"),
        ({"ids": (1,), "names": ("a",), "synonyms": (("b",), ("c",))}, "synonyms has 2 rows"),
        ({"ids": (1, 2), "names": ("a", "b"), "synset": ("a.n.01",)}, "synset has 1 rows"),
        ({"ids": (1,), "names": ("a",), "frequency": ("r", "c")}, "frequency has 2 rows"),
        ({"ids": (1,), "names": ("a",), "supercategory": ("b", "c")}, "supercategory has 2 rows"),
    ],
)
def test_vocabulary_refuses(parts: dict[str, Any], words: str) -> None:
    with pytest.raises(DetectorError, match=words):
        Vocabulary(**parts)


def test_vocabulary_takes_rows_with_all_their_columns() -> None:
    whole = Vocabulary((5, 3, 9), ("a", "b", "a"), (("x",), (), ("y", "z")), ("s", "t", "u"), ("r", "c", "f"))
    part = whole.take([2, 0])
    assert part == Vocabulary((9, 5), ("a", "a"), (("y", "z"), ("x",)), ("u", "s"), ("f", "r"))
    assert len(part) == 2


def test_vocabulary_hash_is_of_ids_and_names_in_order() -> None:
    base = Vocabulary((1, 2), ("a", "b"))
    assert base.sha256 == "a81eda52ffe7b7e8a8cfb8a0a1916ed3bd6a4e69741c46694cba1e8d7f451e85"
    assert Vocabulary((1, 2), ("a", "b"), synset=("s", "t")).sha256 == base.sha256
    others = [((2, 1), ("a", "b")), ((1, 2), ("b", "a")), ((1, 2), ("a", "B")), ((1,), ("a",)), ((1, 2), ("a,", "b"))]
    assert len({Vocabulary(*other).sha256 for other in others} | {base.sha256}) == len(others) + 1


def detections(**changes: Any) -> Detections:
    parts: dict[str, Any] = {
        "image_id": 7,
        "width": 6,
        "height": 4,
        "boxes_xyxy": np.array([[0, 0, 2, 2], [1, 1, 1, 3]], np.float32),
        "scores": np.array([0.5, 0.25], np.float32),
        "category_ids": np.array([3, 1], np.int32),
    }
    return Detections(**parts | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scores": np.array([0.5, 0.25])}, "scores must be float32"),
        ({"scores": np.zeros((2, 1), np.float32)}, "scores must be float32"),
        ({"boxes_xyxy": np.zeros((2, 4))}, "boxes_xyxy must be float32"),
        ({"boxes_xyxy": np.zeros((1, 4), np.float32)}, "boxes_xyxy must be float32 \\(2, 4\\)"),
        ({"boxes_xyxy": np.zeros((2, 5), np.float32)}, "boxes_xyxy must be"),
        ({"category_ids": np.array([3, 1])}, "category_ids must be int32"),
        ({"category_ids": np.array([3], np.int32)}, "category_ids must be int32 \\(2,\\)"),
        ({"scores": np.array([0.5, np.nan], np.float32)}, r"scores\[1\]"),
        ({"scores": np.array([np.inf, 0.1], np.float32)}, r"scores\[0\]"),
        ({"boxes_xyxy": np.array([[0, 0, 1, 1], [0, 0, -np.inf, 1]], np.float32)}, r"boxes_xyxy\[1\]"),
        ({"boxes_xyxy": np.array([[0, 0, 1, 1], [5, 0, 4, 1]], np.float32)}, "negative width or height"),
        ({"boxes_xyxy": np.array([[0, 3, 1, 2], [0, 0, 4, 1]], np.float32)}, r"\[0\].*negative width or height"),
        ({"width": 0}, "the image is 0 x 4"),
        ({"height": -1}, "the image is 6 x -1"),
    ],
)
def test_detections_refuse(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DetectorError, match=f"of image 7: .*{words}"):
        detections(**changes)


def test_detections_may_have_no_area_and_reach_over_the_border() -> None:
    boxes = np.array([[-3, -2, 9, 9], [1, 1, 1, 1]], np.float32)
    assert len(detections(boxes_xyxy=boxes)) == 2


def test_unknown_category_is_named() -> None:
    with pytest.raises(DetectorError, match=r"category_ids\[0\] is 3, which is not in the vocabulary"):
        detections().check_vocabulary(Vocabulary((1, 2), ("a", "b")))
    detections().check_vocabulary(Vocabulary((1, 3), ("a", "b")))


def test_detections_of_anything_that_numpy_reads() -> None:
    found = Detections.of(IMAGE, [[0, 0, 2, 2]], [1], [3])
    assert (found.image_id, found.width, found.height) == (7, 6, 4)
    assert [array.dtype for array in (found.boxes_xyxy, found.scores, found.category_ids)] == ["f4", "f4", "i4"]
    assert len(Detections.of(IMAGE, [], [], [])) == 0


@pytest.mark.parametrize(
    ("boxes", "scores", "ids", "words"),
    [
        ([[0, 0, 2, 2]], [1], [2**31], "category_ids.0. is 2147483648"),
        ([[0, 0, 2, 2]], [1], [2**32 + 1], "category_ids.0."),
        ([[0, 0, 2, 2]], [1], [1.5], "category_ids.0. is 1.5"),
        ([[0, 0, 2, 2]], [1e300], [1], "scores.0. is .inf"),
        ([0, 0, 2, 2], [1], [1], "boxes_xyxy must be"),
        (np.zeros((4, 2)), [1, 1], [1, 1], "boxes_xyxy must be"),
        ([[0, 0, 2, 2]], [1, 1], [1, 1], "boxes_xyxy must be"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_conversion_loses_nothing_in_silence(boxes: Any, scores: Any, ids: Any, words: str) -> None:
    with pytest.raises(DetectorError, match=words):
        Detections.of(IMAGE, boxes, scores, ids)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), st.floats(0, 1e6, width=32)), min_size=1, max_size=5))
def test_every_box_of_corner_and_size_is_accepted(edges: list[tuple[float, float]]) -> None:
    corners = np.array(
        [[x, x, np.float32(x) + np.float32(size), np.float32(x) + np.float32(size)] for x, size in edges]
    )
    n = len(edges)
    assert len(Detections.of(IMAGE, corners, np.zeros(n), np.zeros(n, int))) == n


CAPTION = "a red cat"
BOX = np.array([[0, 0, 2, 2]], np.float32)
SCORE = np.array([0.5], np.float32)


def test_grounding_says_its_phrases() -> None:
    assert Grounding(7, CAPTION, BOX, SCORE, (((2, 5), (6, 9)),)).phrases == ("red cat",)
    assert Grounding(7, CAPTION, BOX, SCORE, ((),)).phrases == ("",)


@pytest.mark.parametrize(
    ("spans", "words"),
    [
        ((), "spans has 0 rows, scores has 1"),
        ((((2, 2),),), r"spans\[0\] is \(2, 2\), outside the caption"),
        ((((5, 2),),), "outside the caption"),
        ((((-1, 2),),), "outside the caption"),
        ((((6, 10),),), "outside the caption"),
    ],
)
def test_grounding_refuses_spans(spans: Any, words: str) -> None:
    with pytest.raises(DetectorError, match=f"Grounding of image 7: .*{words}"):
        Grounding(7, CAPTION, BOX, SCORE, spans)


def test_grounding_refuses_boxes_as_detections_do() -> None:
    with pytest.raises(DetectorError, match="Grounding of image 7: boxes_xyxy"):
        Grounding(7, CAPTION, -np.abs(BOX)[:, ::-1] * np.nan, SCORE, ((),))


@pytest.mark.parametrize("field", ["image_size", "top_k", "chunk_top_k"])
def test_settings_refuse_numbers_below_one(field: str) -> None:
    parts: dict[str, Any] = {field: 0}
    with pytest.raises(DetectorError, match=f"{field} is 0, expected at least 1"):
        DetectorSettings(**parts)


@pytest.mark.parametrize("value", [IMAGE, Vocabulary((1,), ("a",)), detections()])
def test_values_cannot_be_changed(value: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.id = 3
