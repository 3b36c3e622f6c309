"""Tables of class names given by the user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovd_bench.benchmarks.scoring.vocabulary_tables import VocabularyTables
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import Categories

CATEGORIES = Categories.plain([1, 2, 3], ["sofa", "couch", "zebra"])


def _read(tmp_path: Path, content: Any) -> VocabularyTables:
    path = tmp_path / "tables.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return VocabularyTables.read(path)


def test_no_tables() -> None:
    tables = VocabularyTables.read(None)
    hierarchy = tables.hierarchy(CATEGORIES)
    assert (hierarchy.syn, hierarchy.basic, hierarchy.super) == (None, None, None)
    assert tables.siblings(CATEGORIES) is None
    assert tables.hypernyms is None


def test_every_table(tmp_path: Path) -> None:
    tables = _read(
        tmp_path,
        {
            "synset": {"sofa": "sofa.n.01", "couch": "sofa.n.01", "zebra": "zebra.n.01"},
            "basic": {"sofa": "seat", "couch": "seat", "zebra": "zebra"},
            "supercategory": {"sofa": "furniture", "couch": "furniture", "zebra": "animal"},
            "hypernyms": {"poodle": ["dog"]},
        },
    )
    hierarchy = tables.hierarchy(CATEGORIES)
    for rung in (hierarchy.syn, hierarchy.basic, hierarchy.super):
        assert rung is not None
        assert rung.cluster[0] == rung.cluster[1] != rung.cluster[2]
    siblings = tables.siblings(CATEGORIES)
    assert siblings is not None
    np.testing.assert_array_equal(siblings == siblings[0], [True, True, False])
    assert tables.hypernyms == {"poodle": ["dog"]}


def test_coco_to_synset(tmp_path: Path) -> None:
    row = {"coco_cat_id": 1, "meaning": "…", "synset": "sofa.n.01"}
    zebra = {"coco_cat_id": 3, "synset": "zebra.n.01"}
    tables = _read(tmp_path, {"sofa": row, "couch": {**row, "coco_cat_id": 2}, "zebra": zebra})
    rung = tables.hierarchy(CATEGORIES).syn
    assert rung is not None
    assert len(rung) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "the document: Invalid JSON"),
        ([], "the document: Input should be an object"),
        ({"basic": {"sofa": 3}}, "basic.sofa: Input should be a valid string"),
        ({"bassic": {}}, "bassic: Extra inputs are not permitted"),
        ({"sofa": {"coco_cat_id": "1", "synset": "x"}}, "sofa.coco_cat_id: Input should be a valid integer"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        _read(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'tables.json'}: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"basic": {"sofa": "seat"}}, "2 classes have no entry, the first is 'couch'"),
        (
            {
                "basic": dict.fromkeys(CATEGORIES.names, "thing"),
                "supercategory": {"sofa": "a", "couch": "a", "zebra": "b"},
            },
            "basic cluster 'thing' lies in super clusters",
        ),
    ],
)
def test_tables_that_do_not_fit_name_the_file(tmp_path: Path, content: Any, message: str) -> None:
    tables = _read(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        tables.hierarchy(CATEGORIES)
    assert str(caught.value).startswith(f"{tmp_path / 'tables.json'}: ")
