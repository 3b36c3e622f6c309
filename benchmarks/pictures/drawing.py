"""Boxes on images, and images side by side."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw, ImageFont

from ovd_bench.benchmarks.data.text import printable
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import FloatArray

Pixels = npt.NDArray[np.uint8]
#: Pixels uint8 (H, W, 3), boxes (n, 4) absolute xyxy, n labels, n scores or None.
Tile = tuple[Pixels, FloatArray, Sequence[str], FloatArray | None]

#: Okabe and Ito's colours, distinguishable with any kind of colour vision.
COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
#: Smaller images are enlarged by a whole factor until their longer side has this many pixels.
_READABLE = 480
_HALO = "#111111"
_PAPER = "#ffffff"
_INK = "#1a1a1a"
_UNKNOWN = "\N{WHITE SQUARE}"

_Rectangle = tuple[int, int, int, int]


def draw_boxes(
    pixels: Pixels,
    boxes_xyxy: FloatArray,
    labels: Sequence[str],
    scores: FloatArray | None = None,
    *,
    title: str = "",
    scale: float | None = None,
    colors: Sequence[str] | None = None,
) -> Image.Image:
    """Draw labelled boxes, the first ones on top.

    Args:
        pixels: uint8 (H, W, 3), RGB.
        boxes_xyxy: (n, 4), absolute pixels of the image. Boxes are clipped to the image; a box wholly outside is left
            out.
        labels: n texts; an empty one draws the box alone. Characters without a glyph show as a square.
        scores: (n,), shown after the label.
        title: a line above the image.
        scale: picture pixels per image pixel; None = the smallest whole number that makes small images readable.
        colors: n colours; None = by label, the same in every picture.

    Raises:
        DataError: pixels of another type or shape; columns of different length.
    """
    _check(pixels, boxes_xyxy, labels, scores)
    height, width = pixels.shape[:2]
    factor = -(-_READABLE // max(height, width)) if scale is None else scale
    picture = _resized(pixels, factor)
    pen = ImageDraw.Draw(picture)
    line = max(2, round(max(picture.size) / 240))
    rectangles = _rectangles(boxes_xyxy, width, height, picture.size)
    inks = [color_of(label) for label in labels] if colors is None else list(colors)
    for row in reversed(range(len(labels))):
        if (rectangle := rectangles[row]) is not None:
            _outline(pen, rectangle, inks[row], line)
    font = _font(_text_size(picture.size))
    taken: list[_Rectangle] = []
    for row, label in enumerate(labels):
        if (rectangle := rectangles[row]) is not None:
            text = _drawable(label if scores is None else f"{label} {scores[row]:.2f}")
            _label(pen, text.strip(), rectangle, inks[row], font, picture.size, taken)
    return _titled(picture, title) if title else picture


def contact_sheet(
    tiles: Sequence[Tile], columns: int, titles: Sequence[str] | None = None, *, cell: int = _READABLE
) -> Image.Image:
    """Images with their boxes in rows and columns.

    Args:
        tiles: see ``Tile``; drawn row by row.
        columns: tiles per row.
        titles: one per tile.
        cell: the longer side of a tile in pixels; smaller images are enlarged by a whole factor only.
    """
    names = titles if titles is not None else [""] * len(tiles)
    pictures = []
    for (pixels, boxes_xyxy, labels, scores), name in zip(tiles, names, strict=True):
        scale = fitting_scale(pixels, cell)
        pictures.append(draw_boxes(pixels, boxes_xyxy, labels, scores, title=name, scale=scale))
    return grid(pictures, columns)


def grid(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """Pictures row by row on white; every column is as wide as its widest, every row as tall as its tallest.

    Raises:
        DataError: no pictures, or no columns.
    """
    if not pictures or columns < 1:
        raise DataError(f"grid: {len(pictures)} pictures in {columns} columns cannot be laid out")
    gap = 8
    columns = min(columns, len(pictures))
    rows = [pictures[begin : begin + columns] for begin in range(0, len(pictures), columns)]
    widths = [max(row[c].width for row in rows if c < len(row)) for c in range(columns)]
    heights = [max(picture.height for picture in row) for row in rows]
    sheet = Image.new("RGB", (sum(widths) + gap * (columns + 1), sum(heights) + gap * (len(rows) + 1)), _PAPER)
    y = gap
    for row, height in zip(rows, heights, strict=True):
        x = gap
        for picture, width in zip(row, widths, strict=False):
            sheet.paste(picture, (x, y))
            x += width + gap
        y += height + gap
    return sheet


def fitting_scale(pixels: Pixels, cell: int) -> float:
    """Factor that scales the longer side to at most ``cell`` pixels; a whole number if it enlarges."""
    factor = cell / max(pixels.shape[:2])
    return float(int(factor)) if factor >= 1 else factor


def color_of(label: str) -> str:
    """The colour of a class name, the same on every machine."""
    return COLORS[zlib.crc32(label.encode()) % len(COLORS)]


def _check(pixels: Pixels, boxes_xyxy: FloatArray, labels: Sequence[str], scores: FloatArray | None) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise DataError(f"draw_boxes: pixels must be uint8 (H, W, 3), not {pixels.dtype} {pixels.shape}")
    n = len(labels)
    if boxes_xyxy.shape != (n, 4) or (scores is not None and scores.shape != (n,)):
        shapes = f"boxes_xyxy {boxes_xyxy.shape}" + ("" if scores is None else f", scores {scores.shape}")
        raise DataError(f"draw_boxes: {n} labels do not fit {shapes}")


def _resized(pixels: Pixels, factor: float) -> Image.Image:
    picture = Image.fromarray(pixels)
    if factor == 1:
        return picture
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    # Whole pixels of an enlarged image stay sharp squares, so that box edges can be judged.
    return picture.resize(size, Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS)


def _rectangles(boxes_xyxy: FloatArray, width: int, height: int, size: tuple[int, int]) -> list[_Rectangle | None]:
    """Outermost pixels of every box in the picture; None for a box that does not touch the image."""
    result: list[_Rectangle | None] = []
    for x0, y0, x1, y1 in np.asarray(boxes_xyxy, np.float64):
        if not (x0 <= width and y0 <= height and x1 >= 0 and y1 >= 0):
            result.append(None)
            continue
        left, right = (_to_pixel(v, width, size[0]) for v in (x0, x1))
        top, bottom = (_to_pixel(v, height, size[1]) for v in (y0, y1))
        left, top = min(left, size[0] - 1), min(top, size[1] - 1)
        result.append((left, top, max(right - 1, left), max(bottom - 1, top)))
    return result


def _to_pixel(value: float, extent: int, pixels: int) -> int:
    return round(min(max(value, 0.0), extent) * pixels / extent)


def _outline(pen: ImageDraw.ImageDraw, rectangle: _Rectangle, color: str, line: int) -> None:
    left, top, right, bottom = rectangle
    # A dark line around and inside the coloured one keeps it visible on any background.
    pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_HALO)
    if right - left > 2 * line and bottom - top > 2 * line:
        pen.rectangle((left + line, top + line, right - line, bottom - line), outline=_HALO)
    pen.rectangle(rectangle, outline=color, width=line)


def _label(
    pen: ImageDraw.ImageDraw,
    text: str,
    rectangle: _Rectangle,
    color: str,
    font: ImageFont.FreeTypeFont,
    size: tuple[int, int],
    taken: list[_Rectangle],
) -> None:
    """Draw the text where it overlaps least with existing labels, wholly inside the picture."""
    text = _shortened(text, font, size[0] - 4)
    ascent, descent = font.getmetrics()
    width, height = int(font.getlength(text)) + 5, ascent + descent + 2
    if not text or height > size[1]:
        return
    left, top, right, bottom = rectangle
    places = [
        (left, top - height),
        (left, top),
        (left, bottom + 1),
        (right - width + 1, top - height),
        (right - width + 1, bottom - height + 1),
        (left, bottom - height + 1),
    ]
    inside = [(min(max(x, 0), size[0] - width), min(max(y, 0), size[1] - height)) for x, y in places]
    x, y = min(inside, key=lambda place: _covered((*place, place[0] + width, place[1] + height), taken))
    taken.append((x, y, x + width, y + height))
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
    pen.text((x + 2, y + 1), text, fill=_ink_on(color), font=font)


def _covered(rectangle: _Rectangle, taken: list[_Rectangle]) -> int:
    """Overlap of the rectangle with others in pixels, summed over the others."""
    left, top, right, bottom = rectangle
    return sum(max(0, min(right, r) - max(left, x)) * max(0, min(bottom, b) - max(top, y)) for x, y, r, b in taken)


def _titled(picture: Image.Image, title: str) -> Image.Image:
    font = _font(_text_size(picture.size))
    ascent, descent = font.getmetrics()
    strip = ascent + descent + 6
    result = Image.new("RGB", (picture.width, picture.height + strip), _PAPER)
    text = _shortened(_drawable(title), font, picture.width - 2)
    ImageDraw.Draw(result).text((1, 3), text, fill=_INK, font=font)
    result.paste(picture, (0, strip))
    return result


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, truncated with an ellipsis if it is too wide; empty if nothing fits."""
    if font.getlength(text) <= width:
        return text
    for end in range(len(text) - 1, 0, -1):
        short = text[:end].rstrip() + "…"
        if font.getlength(short) <= width:
            return short
    return ""


def _text_size(size: tuple[int, int]) -> int:
    return min(max(round(max(size) / 40), 12), 48)


def _ink_on(color: str) -> str:
    red, green, blue = ImageColor.getrgb(color)[:3]
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else "#ffffff"


def _drawable(text: str) -> str:
    glyphs = _glyphs()
    return "".join(c if ord(c) in glyphs else _UNKNOWN for c in printable(text))


def _font_file() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_font_file()), size)


@cache
def _glyphs() -> frozenset[int]:
    """Code points that the font has a glyph for."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(_font_file())).get_charmap())
