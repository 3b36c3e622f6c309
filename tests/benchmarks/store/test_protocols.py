"""The protocol of a run: its usual limits, its hash, its folder name."""

from __future__ import annotations

import dataclasses
import re
from types import ModuleType
from typing import Any

import pytest

from ovd_bench.benchmarks.store import protocols
from ovd_bench.benchmarks.store.protocols import TOP_K, RunProtocol
from ovd_bench.detectors.closed_set_synonyms import SYNONYMS
from ovd_bench.detectors.coco_classes import COCO_CLASSES
from ovd_bench.detectors.prompts import PLANS, PromptPlan
from ovd_bench.metrics import lemma, lexicon
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.protocol import PROTOCOLS

NAMES = PLANS["names"]


@pytest.mark.parametrize(
    ("ap", "top_k", "chunk_top_k"),
    [("lvis", 300, None), ("lvis-fixed", 10_000, 300), ("coco", 300, None)],
)
def test_usual_limits(ap: str, top_k: int, chunk_top_k: int | None) -> None:
    protocol = RunProtocol.of(ap, NAMES)
    assert (protocol.top_k, protocol.chunk_top_k) == (top_k, chunk_top_k)


def test_every_kind_of_ap_has_limits_that_its_caps_do_not_undercut() -> None:
    assert set(TOP_K) == set(PROTOCOLS)
    for name, protocol in PROTOCOLS.items():
        assert TOP_K[name][0] >= (protocol.image_cap or 0)
        assert TOP_K[name][0] >= max(protocol.max_dets, default=0)


def test_a_top_k_of_ones_own_lifts_the_limit_per_chunk() -> None:
    protocol = RunProtocol.of("lvis-fixed", NAMES, top_k=500)
    assert (protocol.top_k, protocol.chunk_top_k) == (500, None)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"ap": "nothing"}, "unknown protocol 'nothing': choose from lvis, lvis-fixed, coco"),
        ({"ap": "lvis", "top_k": 0}, "top_k is 0, at least 1"),
        ({"ap": "lvis", "image_size": -5}, "image_size is -5, at least 1"),
        ({"ap": "queries"}, "a file of queries has the protocol and the vocabulary 'queries' and a reading"),
        ({"ap": "lvis", "vocabulary": "queries"}, "other data have none of them"),
        ({"ap": "lvis", "reading": "own"}, "other data have none of them"),
    ],
)
def test_protocol_refuses(parts: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        RunProtocol.of(plan=NAMES, **parts)


@pytest.mark.parametrize(
    "change",
    [
        {"ap": "coco"},
        {"ap": "lvis-fixed"},
        {"plan": PLANS["photo"]},
        {"plan": PromptPlan(order="vocabulary")},
        {"vocabulary": "present"},
        {"vocabulary": "verified"},
        {"image_size": 800},
        {"top_k": 301},
        {"chunk_top_k": 300},
        {"tables": "1" * 64},
        {"reading": "own"},
    ],
)
def test_everything_that_moves_the_number_changes_the_hash(change: dict[str, Any]) -> None:
    base = RunProtocol.of("lvis", NAMES)
    assert dataclasses.replace(base, **change).sha256 != base.sha256


def test_fields_are_all_covered_above() -> None:
    fields = {field.name for field in dataclasses.fields(RunProtocol)}
    assert fields == {"ap", "plan", "vocabulary", "image_size", "top_k", "chunk_top_k", "tables", "reading"}


def test_the_plans_name_does_not_change_the_hash() -> None:
    named = RunProtocol.of("lvis", dataclasses.replace(NAMES, name="mine"))
    base = RunProtocol.of("lvis", NAMES)
    assert named.sha256 == base.sha256
    assert named.slug == f"lvis-mine-{base.sha256[:8]}"


def test_the_rules_of_ap_are_part_of_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = RunProtocol.of("lvis", NAMES).sha256
    monkeypatch.setitem(PROTOCOLS, "lvis", dataclasses.replace(PROTOCOLS["lvis"], image_cap=299))
    assert RunProtocol.of("lvis", NAMES).sha256 != before


@pytest.mark.parametrize("name", ["CLEANING_VERSION", "SELECTION_VERSION", "SCORER_VERSION"])
def test_a_version_is_part_of_the_hash(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before = RunProtocol.of("lvis", NAMES)
    sha256, slug = before.sha256, before.slug
    monkeypatch.setattr(protocols, name, 2)
    assert RunProtocol.of("lvis", NAMES).sha256 != sha256
    assert RunProtocol.of("lvis", NAMES).slug != slug, "runs of two versions would lie in one folder"
    assert protocols.versions()[name.removesuffix("_VERSION").lower()] == 2


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (lexicon, "_MEASURES", lexicon._MEASURES | {"heap"}),
        (lexicon, "_DETERMINERS", lexicon._DETERMINERS - {"no"}),
        (lexicon, "_POST_MODIFIERS", lexicon._POST_MODIFIERS | {"amid"}),
        (lexicon, "_CONJUNCTIONS", lexicon._CONJUNCTIONS | {"plus"}),
        (lexicon, "_QUALIFIER", re.compile("x")),
        (lexicon, "MAX_HEAD_WORDS", 11),
        (lemma, "_SINGULAR", lemma._SINGULAR | {"chess"}),
        (lemma, "_IRREGULAR", lemma._IRREGULAR | {"brethren": "brother"}),
        (lemma, "_IRREGULAR_ENDINGS", lemma._IRREGULAR_ENDINGS[1:]),
        (lemma, "_PLURAL_IN_S", lemma._PLURAL_IN_S - {"pie"}),
        (lemma, "_PLURAL_IN_ES", lemma._PLURAL_IN_ES - {"iris"}),
        (protocols, "SYNONYMS", (*SYNONYMS, ("cup", "mug"))),
        (protocols, "COCO_CLASSES", COCO_CLASSES[:-1]),
    ],
)
def test_an_edited_table_of_words_changes_the_hash(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, value: object
) -> None:
    before = RunProtocol.of("lvis", NAMES).sha256
    monkeypatch.setattr(module, name, value)
    assert RunProtocol.of("lvis", NAMES).sha256 != before


def test_every_table_of_the_lexicon_is_covered_above() -> None:
    """A new word list must find its way into the hash."""
    covered = {"_DETERMINERS", "_MEASURES", "_CONJUNCTIONS", "_POST_MODIFIERS", "_IRREGULAR_ENDINGS", "_IRREGULAR"}
    covered |= {"_SINGULAR", "_PLURAL_IN_S", "_PLURAL_IN_ES"}
    tables = {
        name
        for module in (lexicon, lemma)
        for name, value in vars(module).items()
        if re.fullmatch("_[A-Z_]+", name) and isinstance(value, tuple | dict | frozenset)
    }
    assert tables == covered


#: Every published row carries one of these: a change makes them all incomparable.
HASHES = {
    "lvis": "f03e0fc6f431573d1f4c187ee698168dc20b138ce149aeea7775acd8af59cd6c",
    "lvis-fixed": "ff0d7d54ce6aeeae4eda0e9c25ac1b5d53fc0cde0c0c333295e89de8c65d89e7",
    "coco": "ee71facb4751a6ec1eecb282a8e2843c109315277bd0eff5ae005b772f8d2426",
}


def test_hashes_of_the_named_protocols_never_change() -> None:
    classes = [ap for ap in PROTOCOLS if ap != "queries"]
    assert {ap: RunProtocol.of(ap, NAMES).sha256 for ap in classes} == HASHES
