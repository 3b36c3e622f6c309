"""Galleries of a report: the images on which the runs of a table differ most."""

from __future__ import annotations

import io
from pathlib import Path

import PIL.Image

from ovd_bench.benchmarks.board.collect import Board
from ovd_bench.benchmarks.board.page import Gallery, Picture
from ovd_bench.benchmarks.board.rows import BoardTable
from ovd_bench.benchmarks.pictures.drawing import grid
from ovd_bench.benchmarks.pictures.gallery.pictures import LEGEND, picture_row
from ovd_bench.benchmarks.pictures.gallery.runs import ShownRun, find_benchmark, gallery_data
from ovd_bench.benchmarks.pictures.gallery.select import select_images
from ovd_bench.benchmarks.store.folders import manifest_path
from ovd_bench.benchmarks.store.manifest import read_manifest
from ovd_bench.metrics.errors import DataError

#: Runs that are compared: with more of them the differences of the best are lost among those of the worst.
_RUNS = 2
#: Maximum number of columns per row, so that a report stays readable.
_COLUMNS = 4
_CELL = 400


def make_galleries(board: Board, count: int) -> dict[str, Gallery]:
    """A gallery per table, by the table's slug; without pictures it states the reason."""
    return {table.slug: _gallery(table, count) for table in board.tables}


def _gallery(table: BoardTable, count: int) -> Gallery:
    having = [row for row in table.rows if manifest_path(row.folder).is_file()]
    notes = [f"no predictions of {row.name} on this machine" for row in table.rows if row not in having]
    there = having[:_RUNS]  # rows are sorted, the best first
    if len(having) > len(there):
        notes.append(f"the pictures compare the {_RUNS} best runs; 'bench show A,B,C' compares others")
    if not there:
        return Gallery((), tuple(notes))
    try:
        runs = [ShownRun(row.name, row.folder, read_manifest(row.folder)) for row in there]
        setting = gallery_data(runs, find_benchmark(runs, Path()))
        matched = setting.match_runs(runs)
        positions, how = select_images(setting, matched, None, count)
        pictures = []
        for position in positions:
            row = picture_row(setting.gt, matched, position, setting.read(position), _CELL)
            title = f"image {setting.gt.image_ids[position]}, {setting.files[position]}"
            pictures.append(Picture(title, _encoded(grid(row, _COLUMNS)), "image/webp"))
    except DataError as error:
        return Gallery((), (*notes, f"no pictures: {error}"))
    return Gallery(tuple(pictures), (how, LEGEND, *notes, *setting.unreadable))


def _encoded(picture: PIL.Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="WEBP", quality=85, method=2)
    return file.getvalue()
