"""Synthetic images and vocabularies of the checks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from PIL import ImageDraw

from ovd_bench.detectors.types import Vocabulary

Pixels = npt.NDArray[np.uint8]

_GROUND = 132
_COLOURS = {
    "red": (208, 28, 34),
    "brown": (112, 64, 26),
    "white": (240, 240, 236),
    "yellow": (246, 222, 30),
    "orange": (248, 132, 12),
    "pink": (252, 142, 192),
}
_SHAPES = ("circle", "square", "triangle", "hexagon")

#: Names of the benchmark ``shapes``, so that detectors of its closed vocabulary have them too. Ids are neither sorted
#: nor dense, to reveal a detector that returns positions or sorts.
FIGURES = Vocabulary(
    ids=(41, 7, 1203, 12, 560),
    names=(
        "solid red circle",
        "solid brown square",
        "solid white triangle",
        "solid yellow hexagon",
        "solid orange circle",
    ),
)
#: For switching back and forth.
OTHERS = Vocabulary(ids=(3, 900), names=("solid pink hexagon", "solid red drop"))
#: Names as in LVIS and from users: qualifiers, separators, hyphens, accents, one that is only a qualifier.
ODD_NAMES = Vocabulary(
    ids=tuple(range(11, 21)),
    names=(
        "bow_(weapon)",
        "bow_(decorative_ribbons)",
        "T-shirt",
        "St. Bernard. dog",
        "what?",
        "crème brûlée",
        "(red)",
        "{}",
        "red",
        "a very long name of a thing that no data set has but that somebody will type one day anyhow",
    ),
)


def ground(width: int, height: int, seed: int) -> Pixels:
    """A grey background with slight noise, uint8 (height, width, 3)."""
    noise = np.random.default_rng(seed).integers(-6, 7, (height, width, 3))
    return (_GROUND + noise).astype(np.uint8)


def figures(width: int, height: int, seed: int = 0) -> Pixels:
    """Coloured figures all over the image, including the classes of ``FIGURES``, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    picture = PilImage.fromarray(ground(width, height, seed))
    draw = ImageDraw.Draw(picture)
    pitch = max(min(width, height) // 2, max(width, height) // 8, 1)
    names = [*FIGURES.names, OTHERS.names[0]]
    turn = int(rng.integers(len(names)))
    for row in range(max(height // pitch, 1)):
        for column in range(max(width // pitch, 1)):
            side = min(pitch, width, height) * float(rng.uniform(0.5, 0.75))
            left = column * pitch + float(rng.uniform(0, pitch - side))
            top = row * pitch + float(rng.uniform(0, pitch - side))
            _draw_figure(draw, names[turn % len(names)], (left, top, left + side, top + side))
            turn += 1
    return np.array(picture)


def one_figure(width: int, height: int, place: tuple[float, float], side: float) -> Pixels:
    """One red circle around the point ``place`` (x, y in pixels) on a plain background, uint8 (height, width, 3)."""
    picture = PilImage.fromarray(ground(width, height, 0))
    x, y, half = *place, side / 2
    _draw_figure(ImageDraw.Draw(picture), FIGURES.names[0], (x - half, y - half, x + half, y + half))
    return np.array(picture)


def many_classes(count: int) -> Vocabulary:
    """``count`` classes with different names and ids that are not positions."""
    names = [f"{colour} {shape} {number}" for number in range(count) for colour in _COLOURS for shape in _SHAPES]
    return Vocabulary(ids=tuple(range(5 + 2 * count, 5, -2)), names=tuple(names[:count]))


def _draw_figure(draw: ImageDraw.ImageDraw, name: str, box: tuple[float, float, float, float]) -> None:
    _, colour, shape = name.split()
    left, top, right, bottom = box
    middle, half, low = (left + right) / 2, (right - left) / 2, (bottom - top) / 15
    fill = _COLOURS[colour]
    if shape == "circle":
        draw.ellipse(box, fill=fill)
    elif shape == "square":
        draw.rectangle(box, fill=fill)
    elif shape == "triangle":
        draw.polygon([(middle, top), (right, bottom), (left, bottom)], fill=fill)
    else:
        upper, lower = top + low, bottom - low
        inner = half / 2
        centre = (top + bottom) / 2
        corners = [(left, centre), (middle - inner, upper), (middle + inner, upper)]
        corners += [(right, centre), (middle + inner, lower), (middle - inner, lower)]
        draw.polygon(corners, fill=fill)
