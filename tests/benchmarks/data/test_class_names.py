"""Doubtful class names, and what is asked for by default."""

from __future__ import annotations

import dataclasses

import pytest

from ovd_bench.benchmarks.data import class_names
from ovd_bench.benchmarks.data.catalog.benchmark import vocabulary_of
from ovd_bench.detectors.prompts import PLANS, default_plan
from ovd_bench.metrics.types import Categories

OWN = ["valve (open)", "valve (closed)", "pump_left", "pump"]
LVIS = {"bow_(weapon)": "bow.n.04", "bow_(decorative_ribbons)": "bow.n.08", "cat": "cat.n.01"}


def _categories(names: list[str], synset: list[str] | None = None) -> Categories:
    plain = Categories.plain(range(1, len(names) + 1), names)
    return plain if synset is None else dataclasses.replace(plain, synset=tuple(synset))


def test_own_names_are_asked_for_as_they_are() -> None:
    plan = default_plan(vocabulary_of(_categories(OWN)))
    assert plan is PLANS["raw"]
    assert [plan.clean(name) for name in OWN] == OWN


def test_names_of_lvis_are_cleaned_and_plain_names_keep_their_plan() -> None:
    lvis = default_plan(vocabulary_of(_categories(list(LVIS), list(LVIS.values()))))
    assert [lvis.clean(name) for name in LVIS] == ["bow", "bow", "cat"]
    assert default_plan(vocabulary_of(_categories(["traffic light", "cat"]))) is PLANS["names"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["Car", "car", " car "], "3 classes are 1 texts to a detector: 'Car' and 'car' and ' car '"),
        (["car", "cart"], ""),
        (["", " "], ""),  # told apart by `empty`
    ],
)
def test_names_that_read_alike(names: list[str], said: str) -> None:
    assert class_names.alike(names) == said
    assert class_names.empty(_categories(names)) == [number for number, name in enumerate(names, 1) if not name.strip()]


def test_names_that_are_alike_only_when_cleaned() -> None:
    assert class_names.alike(OWN) == ""
    said = class_names.alike(OWN, PLANS["names"].clean)
    assert said == "2 classes are 1 texts to a detector: 'valve (open)' and 'valve (closed)'"
