"""Nested partitions of a vocabulary: which classes merge, and which must not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.hierarchy import Hierarchy, Partition, coco_synsets, hypernym_cut, synonym_rung
from ovd_bench.metrics.types import Categories


def vocabulary(
    names: list[str], synonyms: list[list[str]] | None = None, synset: list[str] | None = None
) -> Categories:
    plain = Categories.plain(np.arange(1, len(names) + 1), names)
    return replace(
        plain,
        synonyms=tuple(map(tuple, synonyms)) if synonyms else plain.synonyms,
        synset=tuple(synset) if synset else plain.synset,
    )


def file_categories(path: Path) -> Categories:
    rows: list[dict[str, Any]] = sorted(json.loads(path.read_text())["categories"], key=lambda row: int(row["id"]))
    return replace(
        Categories.plain([row["id"] for row in rows], [row["name"] for row in rows]),
        synset=tuple(row.get("synset", "") for row in rows),
        synonyms=tuple(tuple(row.get("synonyms", ())) for row in rows),
        supercategory=tuple(row.get("supercategory", "") for row in rows),
    )


def syn_groups(categories: Categories, synset: tuple[str, ...] | None = None) -> list[int]:
    rung = synonym_rung(categories, categories.synset if synset is None else synset)
    assert rung is not None
    groups: list[int] = rung.cluster.tolist()
    return groups


def test_equal_synsets_merge() -> None:
    categories = vocabulary(["sofa", "dog", "couch"], synset=["sofa.n.01", "dog.n.01", "sofa.n.01"])
    rung = synonym_rung(categories, categories.synset)
    assert rung is not None
    assert rung.cluster.tolist() == [0, 1, 0]
    assert rung.names == ("sofa", "dog")


def test_a_name_listed_as_synonym_merges_whatever_case_or_underscore() -> None:
    categories = vocabulary(["hot_dog", "dog", "frankfurter"], [["Hot dog"], ["dog"], ["Hot Dog", "frankfurter"]])
    assert syn_groups(categories) == [0, 1, 0]


def test_a_third_word_that_both_list_does_not_merge() -> None:
    categories = vocabulary(["bow_(weapon)", "bow_(ribbon)"], [["bow"], ["bow"]])
    assert syn_groups(categories) == [0, 1]


def test_different_synsets_never_merge_by_words() -> None:
    categories = vocabulary(["bow", "arc"], [["bow", "arc"], ["bow", "arc"]], ["bow.n.04", "arc.n.01"])
    assert syn_groups(categories) == [0, 1]
    assert syn_groups(categories, ("", "")) == [0, 0]
    assert syn_groups(categories, ("bow.n.04", "")) == [0, 0]


def test_a_chain_of_synonyms_stays_apart_until_it_is_complete() -> None:
    names = ["cab", "taxi", "car"]
    assert syn_groups(vocabulary(names, [["taxi"], ["car"], []])) == [0, 1, 2]
    assert syn_groups(vocabulary(names, [["taxi"], ["car"], ["cab"]])) == [0, 0, 0]


def test_a_word_must_not_tie_two_synsets_together() -> None:
    # "bow" has no synset and is a synonym of both senses
    categories = vocabulary(
        ["bow (weapon)", "bow", "bow (ribbon)", "crossbow"],
        [["bow"], [], ["bow"], []],
        ["bow.n.04", "", "bow.n.08", "bow.n.04"],
    )
    groups = np.array(syn_groups(categories))
    assert groups[0] == groups[3]
    assert len(set(groups[:3])) == 3


def test_no_information_is_no_rung() -> None:
    categories = vocabulary(["a", "b"], [["a"], []])
    assert Hierarchy.build(categories) == Hierarchy(None, None, None)


def test_supercategory_field_needs_every_class_and_a_distinction() -> None:
    categories = vocabulary(["dog", "cat", "car"])
    for field, expected in (
        (("animal", "animal", "vehicle"), [0, 0, 1]),
        (("animal", "animal", ""), None),
        (("none", "none", "none"), None),
    ):
        rung = Hierarchy.build(replace(categories, supercategory=field)).super
        assert (None if rung is None else rung.cluster.tolist()) == expected


def test_tables_take_precedence_and_must_cover_the_vocabulary() -> None:
    categories = replace(vocabulary(["dog", "cat", "car"]), supercategory=("x", "x", "y"))
    table = {"dog": "animal", "cat": "animal", "car": "vehicle", "unicorn": "animal"}
    hierarchy = Hierarchy.build(categories, basic=table, supercategory=dict.fromkeys(categories.names, "thing"))
    assert hierarchy.basic is not None
    assert hierarchy.super is not None
    assert hierarchy.basic.names == ("animal", "vehicle")
    assert hierarchy.super.names == ("thing",)
    del table["cat"]
    with pytest.raises(DataError, match="basic table: 1 classes have no entry, the first is 'cat'"):
        Hierarchy.build(categories, basic=table)


def test_rungs_that_are_not_nested_are_refused() -> None:
    categories = replace(
        vocabulary(["sofa", "couch", "car"], synset=["sofa.n.01", "sofa.n.01", "car.n.01"]),
        supercategory=("furniture", "seat", "vehicle"),
    )
    with pytest.raises(DataError, match="syn cluster 'sofa' lies in super clusters 'furniture' and 'seat'"):
        Hierarchy.build(categories)
    basic = {"sofa": "seat", "couch": "seat", "car": "seat"}
    with pytest.raises(DataError, match="basic cluster 'seat' lies in super clusters"):
        Hierarchy.build(replace(categories, supercategory=("seat", "seat", "vehicle")), basic=basic)
    with pytest.raises(DataError, match="syn covers 3 classes, super 2"):
        Hierarchy(Partition.identity(categories), None, Partition(np.array([0, 0], np.int32), ("x",)))


@pytest.mark.parametrize("cluster", [[0, 2], [1, 1], [-1, 0]])
def test_partition_numbers_must_be_dense(cluster: list[int]) -> None:
    with pytest.raises(DataError, match="cluster must use every number"):
        Partition(np.array(cluster, np.int32), ("a", "b"))


def test_hypernym_cut_takes_the_deepest_cut_node() -> None:
    paths = {
        "dog": ["entity", "animal", "dog"],
        "puppy": ["entity", "animal", "dog", "puppy"],
        "cat": ["entity", "animal", "cat"],
        "car": ["entity", "artifact", "car"],
    }
    assert hypernym_cut(paths, ["animal", "dog"]) == {"dog": "dog", "puppy": "dog", "cat": "animal", "car": "car"}
    with pytest.raises(DataError, match="path of class 'dog' is empty"):
        hypernym_cut({"dog": []}, ["animal"])


def test_real_lvis_classes_are_synsets_and_stay_apart(real_data: Path) -> None:
    categories = file_categories(real_data / "lvis-api" / "lvis_val_100.json")
    hierarchy = Hierarchy.build(categories)
    assert hierarchy.syn is not None
    assert len(hierarchy.syn) == len(categories) == 1230
    assert hierarchy.basic is None
    assert hierarchy.super is None


def test_real_lvis_homonyms_without_their_sense_tags(real_data: Path) -> None:
    categories = file_categories(real_data / "lvis-api" / "lvis_val_100.json")
    bare = tuple(tuple(word.split("_(")[0] for word in row) for row in categories.synonyms)
    assert {"bow", "mouse", "pan", "turkey"} <= {
        w for row in bare for w in row if sum(w in other for other in bare) > 1
    }
    stripped = replace(categories, synonyms=bare)
    assert len(set(syn_groups(stripped))) == 1230
    # With neither tag nor synset a homonym that is also a class name is beyond saving; the other ten still are.
    groups = syn_groups(stripped, ("",) * 1230)
    merged = {(categories.names[groups.index(g)], name) for name, g in zip(categories.names, groups, strict=True)}
    assert {pair for pair in merged if pair[0] != pair[1]} == {
        ("fish", "fish_(food)"),
        ("horse", "knight_(chess_piece)"),
    }


def test_real_coco_synsets(real_data: Path) -> None:
    categories = file_categories(real_data / "faster_coco_eval" / "instances_val2014_100.json")
    table = json.loads((real_data / "lvis-api" / "coco_to_synset.json").read_text())
    synset = coco_synsets(categories, table)
    assert synset["tie"] == "necktie.n.01"
    hierarchy = Hierarchy.build(categories, synset=synset)
    assert hierarchy.syn is not None
    assert hierarchy.super is not None
    assert len(hierarchy.syn) == 80
    assert len(hierarchy.super) == 12
    with pytest.raises(DataError, match="coco_cat_id 7, annotations say"):
        coco_synsets(categories, table | {"tie": {"coco_cat_id": 7, "synset": "necktie.n.01"}})
    with pytest.raises(DataError, match="no synset for class 'person'"):
        coco_synsets(categories, {})
