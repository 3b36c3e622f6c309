"""The training split of a world of shapes, from the written files to batches."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest

from ovd_bench.benchmarks.data.odvg.index import OdvgFile
from ovd_bench.benchmarks.data.shapes import write_split
from ovd_bench.benchmarks.training.grounding.loader import GroundingData
from ovd_bench.benchmarks.training.grounding.settings import GroundingSettings, SourceSettings
from ovd_bench.benchmarks.training.grounding.sources import open_source
from ovd_bench.tests.benchmarks.data.shapes.worlds import SMALL
from ovd_bench.tests.benchmarks.training.grounding.toy import TOKENIZER, named


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training split of the small world."""
    root = tmp_path_factory.mktemp("small")
    write_split(SMALL, "train", root, workers=1)
    return root


def _named(folder: Path, name: str, label_map: str | None) -> tuple[Counter[str], Counter[str]]:
    """How often each name is given to a box in an epoch, and how often each text is part of a caption."""
    source = SourceSettings(
        annotations=str(folder / name), images=str(folder), label_map=label_map and str(folder / label_map)
    )
    settings = GroundingSettings(sources=(source,), sizes=(), crop=None, flip=0)
    data = GroundingData([open_source(source)], settings, TOKENIZER, batch=1, seed=0)
    boxes, phrases = Counter[str](), Counter[str]()
    for batch in itertools.islice(data.batches(), data.batches_per_epoch):
        boxes.update(named(batch.tokens.ids[0], batch.targets[0]))
        phrases.update(part.strip() for part in TOKENIZER.inner.decode(batch.tokens.ids[0].tolist()).split("."))
    return boxes, phrases


def test_every_box_is_called_by_its_class(folder: Path) -> None:
    boxes, phrases = _named(folder, "train_od.jsonl", "label_map.json")
    records = [record.detection for record in OdvgFile.open(folder / "train_od.jsonl")]
    expected = Counter(instance.category for record in records if record for instance in record.instances)
    assert boxes == expected
    assert set(phrases) - {""} == set(expected)
    assert {category.name for category in SMALL.categories} > set(expected)  # some are unseen, and their names unread


def test_every_box_is_called_by_its_phrase(folder: Path) -> None:
    boxes, _ = _named(folder, "train_vg.jsonl", None)
    records = [record.grounding for record in OdvgFile.open(folder / "train_vg.jsonl")]
    regions = [region for record in records if record for region in record.regions]
    assert boxes == sum((Counter({region.phrase[0]: len(region.bbox)}) for region in regions), Counter())
