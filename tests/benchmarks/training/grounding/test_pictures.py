"""Batches as pictures."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.drawing import contact_sheet
from benchmarks.training.grounding.pictures import draw_batches
from tests.benchmarks.training.grounding.toy import TOKENIZER, toy_data, write_toy


def test_boxes_and_names_are_drawn_where_the_records_have_them(tmp_path: Path) -> None:
    folder = write_toy(tmp_path / "toy", images=1)
    (line,) = (folder / "od.jsonl").read_text().splitlines()
    instances = json.loads(line)["detection"]["instances"]
    pixels = np.asarray(Image.open(folder / "0.png"))
    boxes = np.array([instance["bbox"] for instance in instances], np.float64)
    data = toy_data(folder, flip=0, batch=1, num_negatives=0)
    drawn = draw_batches(itertools.islice(data.batches(), 3), TOKENIZER, columns=3)
    sheets = []
    for order in (["red", "blue"], ["blue", "red"]):
        labels = [f"{order.index(instance['category'])} {instance['category']}" for instance in instances]
        title = f"64 x 48: {order[0]}. {order[1]}."
        sheets.append(np.asarray(contact_sheet([(pixels, boxes, labels, None)], 1, [title], cell=640)))
    height, width, _ = sheets[0].shape
    for column in range(3):
        begin = column * (width - 8)
        tile = np.asarray(drawn)[:height, begin : begin + width]
        assert any(np.array_equal(tile, sheet) for sheet in sheets)
