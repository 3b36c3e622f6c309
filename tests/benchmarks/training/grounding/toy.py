"""A data set of coloured rectangles on black: the pixels show what a box should contain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ovd_bench.benchmarks.training.grounding.loader import GroundingData
from ovd_bench.benchmarks.training.grounding.settings import GroundingSettings
from ovd_bench.benchmarks.training.grounding.sources import open_source
from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer
from ovd_bench.grounding_dino_jt.training.batch import Targets

TOKENIZER = packaged_tokenizer()
#: Channels that the class is visible in.
NAMES = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}
SIZES = ((64, 48), (48, 64), (80, 40), (48, 48))


def write_toy(folder: Path, images: int = 12) -> Path:
    """Write ``od.jsonl``, ``vg.jsonl``, ``map.json`` and the images; returns the folder.

    Image i is of one of four sizes, and has a red rectangle left, and a green one right, or a blue one right.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(images)
    detection, grounding = [], []
    for index in range(images):
        width, height = SIZES[index % 4]
        pixels = np.zeros((height, width, 3), np.uint8)
        instances = []
        for side, name in enumerate(("red", ("green", "blue")[index % 3 == 0])):
            left = side * width // 2 + int(rng.integers(1, 5))
            top = int(rng.integers(1, height // 3))
            right, bottom = left + int(rng.integers(10, width // 2 - 5)), top + int(rng.integers(10, height // 2))
            pixels[top:bottom, left:right] = 255 * np.array(NAMES[name])
            box = [left, top, right, bottom]
            instances.append({"bbox": box, "label": list(NAMES).index(name), "category": name})
        Image.fromarray(pixels).save(folder / f"{index}.png")
        head = {"filename": f"{index}.png", "height": height, "width": width}
        detection.append(head | {"detection": {"instances": instances}})
        second = instances[1]["category"]
        caption = f"A RED one on the left and a {second} one"
        regions = [
            {"bbox": instances[0]["bbox"], "phrase": "red", "tokens_positive": [[0, 9], [13, 21]]},
            {"bbox": [instances[1]["bbox"]], "phrase": [second], "tokens_positive": [[26, len(caption)]]},
        ]
        grounding.append(head | {"grounding": {"caption": caption, "regions": regions}})
    for name, rows in (("od", detection), ("vg", grounding)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "map.json").write_text(json.dumps({str(i): name for i, name in enumerate(NAMES)}))
    return folder


def toy_settings(folder: Path, kinds: str = "od", **changes: Any) -> GroundingSettings:
    """Settings for the toy: ``od``, ``vg`` or ``od vg``; images are only mirrored unless changed."""
    sources = [
        {
            "annotations": str(folder / f"{kind}.jsonl"),
            "images": str(folder),
            "label_map": str(folder / "map.json") if kind == "od" else None,
        }
        for kind in kinds.split()
    ]
    plain = {"sources": sources, "sizes": [], "crop": None}
    return GroundingSettings.model_validate(plain | changes)


def toy_data(folder: Path, kinds: str = "od", *, batch: int = 2, seed: int = 0, **changes: Any) -> GroundingData:
    """The toy, opened."""
    settings = toy_settings(folder, kinds, **changes)
    sources = [open_source(source) for source in settings.sources]
    return GroundingData(sources, settings, TOKENIZER, batch=batch, seed=seed)


def named(ids: npt.NDArray[np.int32], targets: Targets) -> list[str]:
    """What each box of a sample is called, read back from its row of the token map."""
    return [TOKENIZER.inner.decode(ids[row].tolist()) for row in targets.token_map]


def corners(targets: Targets, width: int, height: int) -> npt.NDArray[np.float64]:
    """Boxes of a sample as xyxy in pixels of its image."""
    boxes = targets.boxes.astype(np.float64) * np.tile((width, height), 2)
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)


def extent(image: npt.NDArray[np.uint8], name: str) -> list[int]:
    """Smallest xyxy box around the pixels in which a class is visible; all zeros where there are none."""
    # blurred edges count from half of their strength on
    seen = (image.astype(int) @ np.array(NAMES[name])) > 127
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not len(rows):
        return [0, 0, 0, 0]
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
