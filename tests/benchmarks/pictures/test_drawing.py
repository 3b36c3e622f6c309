"""Where the pixels of boxes and labels are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageColor

from ovd_bench.benchmarks.pictures.drawing import COLORS, color_of, contact_sheet, draw_boxes, fitting_scale, grid
from ovd_bench.metrics.errors import DataError

Pixels = npt.NDArray[np.uint8]


def _grey(height: int, width: int) -> Pixels:
    return np.full((height, width, 3), 100, np.uint8)


def _boxes(*boxes: tuple[float, float, float, float]) -> npt.NDArray[np.float64]:
    return np.array(boxes, np.float64).reshape(-1, 4)


def _where(picture: Image.Image, color: str) -> npt.NDArray[np.int64]:
    """Rows and columns of the pixels of a colour, (n, 2)."""
    return np.argwhere((np.asarray(picture) == ImageColor.getrgb(color)).all(axis=2))


@pytest.mark.parametrize("scale", [1, 3])
def test_outline_lies_on_the_outermost_pixels_of_the_box(scale: int) -> None:
    picture = draw_boxes(_grey(80, 120), _boxes((10, 20, 70, 50)), [""], scale=scale, colors=["#ff0000"])
    assert picture.size == (120 * scale, 80 * scale)
    found = _where(picture, "#ff0000")
    assert found.min(axis=0).tolist() == [20 * scale, 10 * scale]
    assert found.max(axis=0).tolist() == [50 * scale - 1, 70 * scale - 1]
    assert np.asarray(picture)[35 * scale, 40 * scale].tolist() == [100, 100, 100]


def test_what_reaches_over_the_border_is_drawn_at_the_border() -> None:
    picture = draw_boxes(_grey(60, 60), _boxes((-20, -5, 30, 900)), [""], scale=1, colors=["#ff0000"])
    found = _where(picture, "#ff0000")
    assert found.min(axis=0).tolist() == [0, 0]
    assert found.max(axis=0).tolist() == [59, 29]


def test_boxes_outside_are_left_out_and_degenerate_ones_are_seen() -> None:
    boxes = _boxes((-30, 0, -10, 20), (70, 0, 90, 20), (1e30, 1e30, 1e31, 1e31))
    picture = draw_boxes(_grey(60, 60), boxes, ["a", "b", "c"], scale=1)
    assert np.array_equal(np.asarray(picture), _grey(60, 60))
    point = draw_boxes(_grey(60, 60), _boxes((30, 30, 30, 30)), [""], scale=1, colors=["#ff0000"])
    assert [30, 30] in _where(point, "#ff0000").tolist()


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (5, 3)])
def test_any_size_of_image(size: tuple[int, int]) -> None:
    picture = draw_boxes(_grey(*size), _boxes((0, 0, size[1], size[0])), ["thing"], np.array([0.5]), title="t")
    assert max(picture.size) >= 480


def test_small_images_are_enlarged_by_a_whole_number_and_large_ones_are_left() -> None:
    assert draw_boxes(_grey(50, 100), _boxes(), []).size == (500, 250)
    assert draw_boxes(_grey(500, 900), _boxes(), []).size == (900, 500)
    assert fitting_scale(_grey(100, 100), 450) == 4
    assert fitting_scale(_grey(100, 900), 450) == 0.5


@pytest.mark.parametrize("box", [(0, 0, 20, 20), (470, 0, 480, 10), (0, 350, 20, 360), (460, 340, 480, 360)])
def test_labels_stay_inside_the_picture(box: tuple[float, float, float, float]) -> None:
    color = "#ff00ff"
    alone = draw_boxes(_grey(360, 480), _boxes(box), [""], scale=1, colors=[color])
    named = draw_boxes(_grey(360, 480), _boxes(box), ["a long label"], scale=1, colors=[color])
    label = _where(named, color)
    assert len(label) > len(_where(alone, color)) + 300
    wide = np.ptp(label[:, 1]) + 1
    assert 70 < wide < 480


def test_a_label_that_is_too_wide_ends_in_an_ellipsis() -> None:
    wide = draw_boxes(_grey(100, 480), _boxes((0, 0, 50, 50)), ["x" * 500], scale=1, colors=["#ff00ff"])
    assert np.ptp(_where(wide, "#ff00ff")[:, 1]) < 480


def test_labels_of_the_same_box_do_not_cover_each_other() -> None:
    boxes = _boxes((100, 100, 300, 200), (100, 100, 300, 200))
    picture = draw_boxes(_grey(360, 480), boxes, ["first", "second"], scale=1, colors=["#ff0000", "#0000ff"])
    for color in ("#ff0000", "#0000ff"):
        assert len(_where(picture, color)) > 300


def test_characters_without_a_glyph_are_shown_as_squares_and_control_characters_do_no_harm() -> None:
    boxes = _boxes((0, 100, 50, 150))
    han, square = (draw_boxes(_grey(360, 480), boxes, [text], scale=1, colors=["#ff0000"]) for text in ("猫", "□"))
    assert np.array_equal(np.asarray(han), np.asarray(square))
    odd = draw_boxes(_grey(360, 480), boxes, ["a\nb\x00c\u202ed"], scale=1)
    assert odd.size == (480, 360)


def test_colours_follow_the_name() -> None:
    assert color_of("cat") == color_of("cat")
    assert {color_of(f"class {i}") for i in range(200)} == set(COLORS)


def test_the_first_box_is_on_top() -> None:
    boxes = _boxes((10, 10, 50, 50), (10, 10, 50, 50))
    picture = draw_boxes(_grey(60, 60), boxes, ["", ""], scale=1, colors=["#ff0000", "#0000ff"])
    assert len(_where(picture, "#ff0000"))
    assert not len(_where(picture, "#0000ff"))


def test_columns_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="labels do not fit"):
        draw_boxes(_grey(9, 9), _boxes((0, 0, 1, 1)), [])
    with pytest.raises(DataError, match="labels do not fit"):
        draw_boxes(_grey(9, 9), _boxes((0, 0, 1, 1)), ["a"], np.zeros(2))
    with pytest.raises(DataError, match="uint8"):
        draw_boxes(np.zeros((4, 4), np.uint8), _boxes(), [])


def test_contact_sheet_has_rows_and_columns() -> None:
    tiles = [(_grey(100, 200), _boxes((0, 0, 9, 9)), ["a"], None) for _ in range(5)]
    sheet = contact_sheet(tiles, 2, ["t"] * 5, cell=200)
    cell = draw_boxes(*tiles[0], title="t", scale=1).size
    assert sheet.size == (2 * cell[0] + 3 * 8, 3 * cell[1] + 4 * 8)
    with pytest.raises(DataError):
        grid([], 2)
