"""Prompt plans: cleaning, order, chunks, and a hash that is part of the protocol."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovd_bench.detectors.prompts import OWL_TEMPLATES, PLANS, PromptPlan
from ovd_bench.detectors.types import DetectorError, Vocabulary


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"templates": ()}, "templates is empty"),
        ({"templates": ("a photo",)}, "exactly one {}"),
        ({"templates": ("{} and {}",)}, "exactly one {}"),
        ({"templates": ("{name}",)}, "exactly one {}"),
        ({"templates": ("{} {0}",)}, "exactly one {}"),
        ({"templates": ("{}", "a {}", "{}")}, "a template occurs twice"),
        ({"chunk_classes": 0}, "chunk_classes is 0"),
        ({"token_budget": -1}, "token_budget is -1"),
    ],
)
def test_plan_refuses(parts: dict[str, Any], words: str) -> None:
    with pytest.raises(DetectorError, match=f"prompt plan 'mine': .*{words}"):
        PromptPlan(name="mine", **parts)


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("aerosol_can", "aerosol can"),
        ("bow_(weapon)", "bow"),
        ("bow_(decorative_ribbons)", "bow"),
        ("a_(b)_c_(d)_e", "a e"),
        ("a_(b\nc)_d", "a d"),
        ("(whole)", "(whole)"),
        ("  spaced   out ", "spaced out"),
        ("T-shirt", "T-shirt"),
        ("{}", "{}"),
        ("open (", "open ("),
        ("crème_brûlée", "crème brûlée"),
    ],
)
def test_cleaning(name: str, clean: str) -> None:
    assert PromptPlan().clean(name) == clean
    assert PromptPlan(cleaning="none").clean(name) == name


def _glip(name: str) -> str:
    """The three steps that GLIP's evaluator and mmdetection take, without the blank that they leave at the end."""
    return re.sub("  ", " ", re.sub("_", " ", re.sub(r"\(.*\)", "", name))).strip()


def test_real_lvis_names_are_cleaned_as_elsewhere_and_collisions_are_reported(real_data: Path) -> None:
    categories = json.loads((real_data / "lvis-api" / "lvis_val_100.json").read_text())["categories"]
    vocabulary = Vocabulary(tuple(c["id"] for c in categories), tuple(c["name"] for c in categories))
    plan = PromptPlan()
    assert [plan.clean(name) for name in vocabulary.names] == [_glip(name) for name in vocabulary.names]
    assert sum("(" in name for name in vocabulary.names) > 100
    names = dict(zip(vocabulary.ids, vocabulary.names, strict=True))
    found = {words: {names[i] for i in ids} for words, ids in plan.collisions(vocabulary).items()}
    assert found == {
        "bow": {"bow_(weapon)", "bow_(decorative_ribbons)"},
        "fish": {"fish", "fish_(food)"},
        "mouse": {"mouse_(animal_rodent)", "mouse_(computer_equipment)"},
        "octopus": {"octopus_(food)", "octopus_(animal)"},
        "pan": {"pan_(for_cooking)", "pan_(metal_container)"},
        "salmon": {"salmon_(fish)", "salmon_(food)"},
        "turkey": {"turkey_(bird)", "turkey_(food)"},
    }
    colliding = {i for ids in plan.collisions(vocabulary).values() for i in ids}
    others = [_glip(name).casefold() for i, name in names.items() if i not in colliding]
    assert len(set(others)) == len(others)
    assert not PromptPlan(cleaning="none").collisions(vocabulary)


def test_collisions_do_not_depend_on_case() -> None:
    assert PromptPlan().collisions(Vocabulary((4, 2, 9), ("Bow", "bow_(weapon)", "arrow"))) == {"bow": [4, 2]}


def test_prompts_are_filled_without_format() -> None:
    plan = PromptPlan(templates=("a {}.", "two }{} s"))
    assert plan.fill("x_{0}_{name}_{}") == ["a x {0} {name} {}.", "two }x {0} {name} {} s"]


def test_order() -> None:
    vocabulary = Vocabulary((30, 10, 20, 5), ("pear", "fig_(dry)", "apple", "fig"))
    assert PromptPlan(order="vocabulary").rows(vocabulary) == [0, 1, 2, 3]
    assert PromptPlan(order="id").rows(vocabulary) == [3, 1, 2, 0]
    assert PromptPlan(order="name").rows(vocabulary) == [2, 3, 1, 0]


def test_chunks_of_forty_as_glip_cuts_lvis() -> None:
    chunks = PromptPlan().chunks(1203)
    assert [len(chunk) for chunk in chunks] == [40] * 30 + [3]
    assert PromptPlan(chunk_classes=None).chunks(1203) == [range(1203)]
    assert PromptPlan().chunks(0) == []
    assert PromptPlan(chunk_classes=None).chunks(0, []) == []


def test_a_class_that_does_not_fit_alone_is_refused() -> None:
    plan = PromptPlan(token_budget=10)
    assert plan.chunks(2, [8, 8], overhead=2) == [range(1), range(1, 2)]
    with pytest.raises(DetectorError, match=r"category number 1 alone needs 9 tokens of 8"):
        plan.chunks(2, [8, 9], overhead=2)


@given(
    st.lists(st.integers(1, 12), max_size=60),
    st.one_of(st.none(), st.integers(1, 9)),
    st.integers(12, 40),
    st.integers(0, 3),
)
def test_chunks_cover_everything_within_both_limits_and_no_fewer_would_do(
    tokens: list[int], most: int | None, budget: int, overhead: int
) -> None:
    plan = PromptPlan(chunk_classes=most, token_budget=budget + overhead)
    chunks = plan.chunks(len(tokens), tokens, overhead)
    assert [row for chunk in chunks for row in chunk] == list(range(len(tokens)))
    used = [sum(tokens[row] for row in chunk) for chunk in chunks]
    for chunk, need in zip(chunks, used, strict=True):
        assert 1 <= len(chunk) <= (most or len(tokens))
        assert need <= budget
    # Greedy is minimal: a chunk ends only where the next class would break a limit.
    for chunk, need in zip(chunks[:-1], used[:-1], strict=True):
        assert len(chunk) == most or need + tokens[chunk.stop] > budget


@given(st.integers(0, 200), st.integers(1, 50))
def test_without_tokens_only_the_number_of_classes_counts(classes: int, most: int) -> None:
    chunks = PromptPlan(chunk_classes=most, token_budget=1).chunks(classes)
    assert [row for chunk in chunks for row in chunk] == list(range(classes))
    assert all(len(chunk) == most for chunk in chunks[:-1])


#: Changing one of these changes the protocol hash of every published row: never do it by accident.
HASHES = {
    "names": "a6608a123c9ff9036cb46cf0632954772c715884a16ddf65d80edc2c460c5180",
    "names-one-pass": "9e9b689841d8854815be75b50d416b3242f9fea846b86adc31250aea49e1058e",
    "owl7": "c331a491639791ccd94af2225b789dc658caf497acf8794db335e1f1e75ad70b",
    "photo": "21d5bc9f9ba9204746646e6599d54b1d26a592472bf586b3012ab9c4174c1e95",
    "synonyms-1": "92f626876d5428e1f5453f33a632d8ac0b62c4b6bdb97eff16ace54262ca61be",
    "synonyms-2": "fd905806bb5a241dbab9db57c25e8f05bfc3b7f688a7fef415bd90d879ef8c83",
    "synonyms-3": "4f281250198e25f5bbae041d09bda64e9f055f0b90fee65a68cbdf36d399af4d",
    "raw": "8ef5f503d58be59ee43160d442191f14cce0b23ec4a1858a7a037a4885c91568",
}


def test_hashes_of_shipped_plans_never_change() -> None:
    assert {name: plan.sha256 for name, plan in PLANS.items()} == HASHES


@pytest.mark.parametrize(
    "change",
    [
        {"cleaning": "none"},
        {"templates": ("a {}",)},
        {"templates": ("{}", "a {}")},
        {"templates": ("a {}", "{}")},
        {"ensemble": "embeddings"},
        {"chunk_classes": 41},
        {"chunk_classes": None},
        {"token_budget": 255},
        {"order": "vocabulary"},
        {"order": "name"},
        {"paraphrase": 1},
        {"paraphrase": 2},
        {"distractors": ("a", "b")},
        {"distractors": ("b", "a")},
    ],
)
def test_every_field_but_the_name_changes_the_hash(change: dict[str, Any]) -> None:
    assert dataclasses.replace(PromptPlan(), **change).sha256 != PromptPlan().sha256


def test_the_name_does_not_change_the_hash() -> None:
    assert PromptPlan(name="other").sha256 == PromptPlan().sha256


def test_fields_of_a_plan_are_all_covered_above() -> None:
    fields = {field.name for field in dataclasses.fields(PromptPlan)}
    assert fields == {
        "name",
        "cleaning",
        "templates",
        "ensemble",
        "chunk_classes",
        "token_budget",
        "order",
        "paraphrase",
        "distractors",
    }


def test_shipped_plans_have_their_name_and_distinct_hashes() -> None:
    assert all(name == plan.name for name, plan in PLANS.items())
    assert len({plan.sha256 for plan in PLANS.values()}) == len(PLANS)
    assert len(OWL_TEMPLATES) == 7


def test_a_paraphrase_is_a_synonym_that_says_something_else() -> None:
    """The name itself is often among the synonyms, in another spelling; few synonyms are counted round."""
    vocabulary = Vocabulary(
        (3, 1, 2),
        ("traffic_light", "sofa", "cat"),
        synonyms=(("Traffic light", "stoplight"), ("couch", "sofa", "settee"), ()),
        frequency=("f", "r", "c"),
    )
    spoken = [PromptPlan(paraphrase=number).spoken(vocabulary) for number in range(4)]
    assert [one.names for one in spoken] == [
        ("traffic_light", "sofa", "cat"),
        ("stoplight", "couch", "cat"),
        ("stoplight", "settee", "cat"),
        ("stoplight", "couch", "cat"),
    ]
    assert {one.ids for one in spoken} == {(3, 1, 2)}
    assert spoken[1].frequency == vocabulary.frequency
    without = Vocabulary((1,), ("cat",))
    assert PromptPlan(paraphrase=1).spoken(without) == without


def test_a_negative_paraphrase_is_refused() -> None:
    with pytest.raises(DetectorError, match="paraphrase is -1"):
        PromptPlan(paraphrase=-1)


def test_distractors_come_behind_with_ids_of_their_own() -> None:
    vocabulary = Vocabulary((3, 9, 2), ("a", "b", "c"), frequency=("f", "r", "c"))
    plan = PromptPlan(distractors=("x", "y"), order="name")
    spoken = plan.spoken(vocabulary)
    assert (spoken.ids, spoken.names) == ((3, 9, 2, 10, 11), ("a", "b", "c", "x", "y"))
    assert plan.rows(spoken) == [0, 1, 2, 3, 4]


def test_a_distractor_is_no_class_and_there_once() -> None:
    with pytest.raises(DetectorError, match="distractor 'B_b' is also a class"):
        PromptPlan(distractors=("x", "B_b")).spoken(Vocabulary((1,), ("b b",)))
    with pytest.raises(DetectorError, match="a distractor occurs twice"):
        PromptPlan(distractors=("x", "x"))
