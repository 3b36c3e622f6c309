"""Batches as pictures, to see with one's own eyes what is learned from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import PIL.Image

from benchmarks.drawing import Tile, contact_sheet
from grounding_dino_jt.tokenizer import Tokenizer
from grounding_dino_jt.training.batch import TrainingBatch


def draw_batches(
    batches: Iterable[TrainingBatch], tokenizer: Tokenizer, *, columns: int = 4, cell: int = 640
) -> PIL.Image.Image:
    """Images of batches with the boxes and, read back from the token maps, what each box is called.

    Args:
        batches: to draw, one image after the other; padding is cut off.
        tokenizer: that the captions were made with.
        columns: images per row.
        cell: longer side of an image in the picture.
    """
    tiles: list[Tile] = []
    titles = []
    for batch in batches:
        for image, (height, width), ids, targets in zip(
            batch.images, batch.sizes.tolist(), batch.tokens.ids, batch.targets, strict=True
        ):
            boxes = targets.boxes.astype(np.float64) * np.tile((width, height), 2)
            corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
            names = [tokenizer.inner.decode(ids[row].tolist(), skip_special_tokens=False) for row in targets.token_map]
            labels = [f"{number} {name}" for number, name in zip(targets.phrases.tolist(), names, strict=True)]
            tiles.append((image[:height, :width], corners, labels, None))
            titles.append(f"{width} x {height}: {tokenizer.inner.decode(ids.tolist())}")
    return contact_sheet(tiles, columns, titles, cell=cell)
