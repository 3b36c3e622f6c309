"""A contact sheet of an ODVG file: images with their boxes and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ovd_bench.benchmarks.data.images import image_file, read_image
from ovd_bench.benchmarks.data.odvg.index import OdvgFile
from ovd_bench.benchmarks.data.odvg.records import OdvgRecord, read_label_map
from ovd_bench.benchmarks.data.odvg.spans import BoxXyxy
from ovd_bench.benchmarks.data.odvg.verify import find_label_map
from ovd_bench.benchmarks.data.text import unknown_name
from ovd_bench.benchmarks.pictures.contact_sheet import draw_some
from ovd_bench.benchmarks.pictures.drawing import Tile
from ovd_bench.metrics.errors import DataError


def write_odvg_contact_sheet(
    path: Path,
    images: Path,
    target: Path,
    count: int,
    *,
    label_map: Path | None = None,
    class_name: str = "",
    seed: int = 0,
) -> tuple[list[int], list[str]]:
    """Draw records of a file, chosen at random, and write them as one picture.

    Args:
        path: the ODVG file.
        images: folder of its images.
        target: ``.png``, ``.jpg`` or ``.webp``.
        count: maximum number of records.
        label_map: names of the classes; None = the one in the folder of the file, if there is one.
        class_name: only records with a box of this class, or of a phrase with this text, and only such boxes.
        seed: seed of the choice.

    Returns:
        Numbers of the records, counted from 1, in the order in which they are drawn, and one line for every record
        whose image cannot be used.

    Raises:
        DataError: a bad line or label map, no such class, no image that can be used, another suffix.
    """
    file = OdvgFile.open(path)
    label_map = label_map or find_label_map(path)
    names = read_label_map(label_map) if label_map else ()
    positions = list(range(len(file)))
    if class_name:
        positions = [n for n in positions if any(name == class_name for name, _ in _boxes(file[n], names))]
        if not positions:
            known = dict.fromkeys(name for record in file for name, _ in _boxes(record, names))
            others = "the file has none of this or a similar name"
            raise DataError(unknown_name(f"{path}: no box is called '{class_name}'", class_name, known, others))

    def tile(position: int) -> tuple[Tile, str]:
        record = file[position]
        pixels = read_image(position + 1, image_file(images, record.filename), (record.width, record.height)).pixels
        found = [(name, box) for name, box in _boxes(record, names) if class_name in ("", name)]
        boxes_xyxy = np.array([box for _, box in found], np.float64).reshape(-1, 4)
        title = f"{position + 1}: {record.grounding.caption if record.grounding else record.filename}"
        return (pixels, boxes_xyxy, [name for name, _ in found], None), title

    shown, passed_over = draw_some(tile, positions, target, count, path.name, seed)
    return [position + 1 for position in shown], passed_over


def _boxes(record: OdvgRecord, names: tuple[str, ...]) -> list[tuple[str, BoxXyxy]]:
    """Boxes with the name of their class or with their phrase."""
    if record.grounding is not None:
        return [(" / ".join(region.phrase), box) for region in record.grounding.regions for box in region.bbox]
    return [
        (names[one.label] if one.label < len(names) else one.category or f"label {one.label}", one.bbox)
        for one in (record.detection.instances if record.detection else ())
    ]
