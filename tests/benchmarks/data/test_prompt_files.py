"""Prompt plans from YAML files: strict, hostile input included."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovd_bench.benchmarks.data.prompt_files import MAX_BYTES, read_plan
from ovd_bench.detectors.prompts import PLANS, PromptPlan
from ovd_bench.metrics.errors import DataError


def write(folder: Path, text: str) -> str:
    path = folder / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", PLANS)
def test_a_name_is_a_shipped_plan(name: str) -> None:
    assert read_plan(name) is PLANS[name]


def test_what_a_file_leaves_out_is_as_usual(tmp_path: Path) -> None:
    assert read_plan(write(tmp_path, "name: mine")) == PromptPlan(name="mine")


def test_a_file_can_say_everything(tmp_path: Path) -> None:
    text = """
name: mine-2
cleaning: none
templates: ["a {}", "ein {} für sich"]
ensemble: embeddings
chunk_classes: null
token_budget: 77
order: name
paraphrase: 2
distractors: [a kite, a drum]
"""
    plan = read_plan(write(tmp_path, text))
    assert plan == PromptPlan(
        "mine-2", "none", ("a {}", "ein {} für sich"), "embeddings", None, 77, "name", 2, ("a kite", "a drum")
    )
    assert hash(plan)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the document: "),
        ("- 1", "the document: "),
        ("cleaning: lvis", "name: Field required"),
        ("name: mine\nchunk: 40", "chunk: Extra inputs are not permitted"),
        ("name: ../up", "name: String should match pattern"),
        ("name: .hidden", "name: String should match pattern"),
        ("name: names", "'names' is a plan of the suite"),
        ("name: mine\ncleaning: glip", "cleaning: Input should be 'none' or 'lvis'"),
        ("name: mine\ntemplates: a {}", "templates: "),
        ("name: mine\ntemplates: [1]", "templates.0: "),
        ("name: mine\ntemplates: []", "templates is empty"),
        ("name: mine\ntemplates: [photo]", "exactly one {}"),
        ("name: mine\nchunk_classes: '40'", "chunk_classes: "),
        ("name: mine\nchunk_classes: true", "chunk_classes: "),
        ("name: mine\nchunk_classes: 0", "chunk_classes is 0"),
        ("name: mine\ntoken_budget: null", "token_budget: "),
        ("name: mine\ntoken_budget: 2.5", "token_budget: "),
        ("name: [", "is not YAML"),
        ("name: !!python/object/apply:os.system ['true']", "is not YAML"),
        ("name: mine\n\x00", "is not YAML"),
        ("[" * 5000, "is not YAML"),
        ("name: mine\n" + "#" * MAX_BYTES, "larger than"),
    ],
)
def test_a_wrong_file_gets_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_plan(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert words in message
    assert "\n" not in message
    assert len(message) < 400


def test_aliases_cannot_blow_a_plan_up(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(DataError, match=r"plan\.yaml: "):
        read_plan(write(tmp_path, "\n".join(lines)))


def test_no_name_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no prompt plan 'nothing' and no such file: choose from names, "):
        read_plan("nothing")
    with pytest.raises(DataError, match="no such file"):
        read_plan(str(tmp_path))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(DataError, match="is not YAML"):
        read_plan(str(path))
