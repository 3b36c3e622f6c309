"""A complete detector in one file: coloured blobs, without any learning.

It reads the colour words of class names and nothing else: "solid red star" and "dotted red ring" are both "red" to it.
So it says what colour alone is worth on a benchmark whose classes have colours. Try it:

    bench check examples/my_detector.py:ColourBlobs
    bench run -d examples/my_detector.py:ColourBlobs -b shapes --limit 20
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary

#: Colour words and a typical value of each, sRGB.
COLOURS = {
    "red": (208, 32, 38),
    "orange": (246, 134, 20),
    "yellow": (244, 220, 36),
    "lime": (160, 230, 44),
    "green": (30, 146, 50),
    "cyan": (52, 212, 220),
    "blue": (32, 68, 212),
    "purple": (128, 38, 168),
    "pink": (250, 144, 194),
    "brown": (114, 66, 30),
    "white": (240, 240, 238),
    "black": (22, 22, 26),
}
#: Largest distance in CIELAB at which a pixel still has a colour.
REACH = 30.0
#: Stripes and dots break an object into pieces; closing gaps of so many pixels puts it together again. Chosen on 80
#: images of ``shapes-minival``, as was ``MIN_PIXELS``.
GAPS = (1, 5, 9)
MIN_PIXELS = 60
#: Larger images are thinned out to this longer side.
MAX_SIDE = 640


class ColourBlobs:
    """Connected regions of pixels near the named colours.

    The box is that of the region; the score is how well the region fills it, how close its pixels are to the colour and
    how many they are. Every class that has the colour in its name gets the same score. A class without a colour word
    gets no boxes.
    """

    #: What the board says about it. Without weights, the hash of this file stands for theirs. A detector with weights
    #: fills ``weights_sha256`` and ``parameters`` in when it has loaded them, with ``dataclasses.replace``.
    card = DetectorCard(
        name="colour-blobs",
        family="colour-blobs",
        framework="numpy",
        loader="",
        parameters=0,
        backbone="none: connected regions of pixels near a named colour",
        text_encoder="none: colour words are looked up",
        image_size=f"as it is, longer side up to {MAX_SIDE}",
        training_data=(),
        licence="Apache-2.0",
        notes=("no learning: what colour alone is worth",),
    )

    def __init__(self, card: DetectorCard, settings: DetectorSettings) -> None:
        self.card = card
        self._settings = settings
        self._chunks: list[list[tuple[int, str]]] | None = None

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        """Look up the colour of each class.

        Raises:
            DetectorError: the plan has several templates.
        """
        if len(plan.templates) > 1:
            raise DetectorError("colour-blobs looks words up: it cannot average over templates, use the plan 'names'")
        rows = plan.rows(vocabulary)
        classes = [(vocabulary.ids[row], _colour_word(plan.clean(vocabulary.names[row]))) for row in rows]
        self._chunks = [[classes[row] for row in chunk] for chunk in plan.chunks(len(classes))]

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Boxes of each image, best first.

        Raises:
            DetectorError: no vocabulary was set.
        """
        if self._chunks is None:
            raise DetectorError("colour-blobs: set_vocabulary comes before detect")
        return [self._detect(image, self._chunks) for image in images]

    def _detect(self, image: Image, chunks: list[list[tuple[int, str]]]) -> Detections:
        step = -(-max(image.width, image.height) // MAX_SIDE)
        wanted = {word for chunk in chunks for _, word in chunk if word}
        blobs = {word: found for word, found in _blobs(image.pixels[::step, ::step]).items() if word in wanted}
        size = [image.width, image.height] * 2
        pairs: list[tuple[float, int, list[float]]] = []
        for chunk in chunks:
            own = [
                (score, category, np.minimum(np.multiply(box, step), size).tolist())
                for category, word in chunk
                for score, box in blobs.get(word, ())
            ]
            own.sort(key=lambda pair: -pair[0])
            pairs += own[: self._settings.chunk_top_k or self._settings.top_k]
        pairs.sort(key=lambda pair: -pair[0])
        scores, categories, boxes = zip(*pairs[: self._settings.top_k], strict=True) if pairs else ((), (), ())
        return Detections.of(image, boxes, scores, categories)


def _colour_word(name: str) -> str:
    """The first colour word of a name, empty where there is none."""
    words = name.casefold().replace("-", " ").split()
    return next((word for word in words if word in COLOURS), "")


def _blobs(pixels: npt.NDArray[np.uint8]) -> dict[str, list[tuple[float, tuple[int, int, int, int]]]]:
    """Score and box (x1, y1, x2, y2; end exclusive) of the regions of each colour."""
    prototypes = _lab(np.array([list(COLOURS.values())], np.uint8))[0]
    lab = _lab(pixels)
    distances = np.stack([np.sqrt(((lab - colour) ** 2).sum(-1)) for colour in prototypes])
    nearest, distance = distances.argmin(0), distances.min(0)
    found: dict[str, list[tuple[float, tuple[int, int, int, int]]]] = {}
    for number, word in enumerate(COLOURS):
        mask = (nearest == number) & (distance < REACH)
        best: dict[tuple[int, int, int, int], float] = {}
        for gap in GAPS:
            regions, _ = ndimage.label(_closed(mask, gap))
            for label, region in enumerate(ndimage.find_objects(regions), 1):
                inside = mask[region] & (regions[region] == label)
                count = int(inside.sum())
                if count < MIN_PIXELS:
                    continue
                fill = count / inside.size
                closeness = 1 - float(distance[region][inside].mean()) / REACH
                rows, columns = region
                box = (columns.start, rows.start, columns.stop, rows.stop)
                best[box] = max(best.get(box, 0.0), fill * closeness * count / (count + 100))
        found[word] = [(score, box) for box, score in best.items()]
    return found


def _closed(mask: npt.NDArray[np.bool_], gap: int) -> npt.NDArray[np.bool_]:
    """The mask with gaps of up to ``gap`` pixels filled."""
    if gap <= 1:
        return mask
    padded = np.pad(mask, gap).astype(np.uint8)
    closed = ndimage.grey_closing(padded, size=(gap, gap))  # separable, so faster than binary_closing
    filled: npt.NDArray[np.bool_] = closed[gap:-gap, gap:-gap] > 0
    return filled


def _lab(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """SRGB to CIELAB under D65 (IEC 61966-2-1, CIE 15), float32 (H, W, 3)."""
    levels = np.arange(256) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4).astype(np.float32)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float32)
    xyz = linear[pixels] @ to_xyz.T / np.array([0.9505, 1.0, 1.089], np.float32)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    lab: npt.NDArray[np.float32] = np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1
    )
    return lab
