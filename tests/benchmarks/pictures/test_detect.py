"""Prompts to vocabularies, and what is kept of what a detector finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovd_bench.benchmarks.pictures.detect import class_vocabulary, prompt_vocabulary
from ovd_bench.metrics.errors import DataError


@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("a cat. a remote control.", ("a cat", "a remote control")),
        ("cat,dog , bird", ("cat", "dog", "bird")),
        ("Cat. cat. . ,, CAT. dog", ("Cat", "dog")),
        ("  a   cat\nén chat ", ("a cat", "én chat")),
        ("a cat; 猫。狗，鸟；鱼", ("a cat", "猫", "狗", "鸟", "鱼")),
    ],
)
def test_prompts_are_parted_cleaned_and_freed_of_repetitions(prompt: str, names: tuple[str, ...]) -> None:
    vocabulary = prompt_vocabulary(prompt)
    assert vocabulary.names == names
    assert vocabulary.ids == tuple(range(1, len(names) + 1))


@pytest.mark.parametrize("prompt", ["", " . , .", "\n"])
def test_a_prompt_without_a_class_is_refused(prompt: str) -> None:
    with pytest.raises(DataError, match="names no class"):
        prompt_vocabulary(prompt)


def test_class_files(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("a cat. with a dot\n\n a dog \nA DOG\n", encoding="utf-8")
    assert class_vocabulary(path).names == ("a cat. with a dot", "a dog")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        class_vocabulary(path)
    path.write_text("\n")
    with pytest.raises(DataError, match="names no class"):
        class_vocabulary(path)
    with pytest.raises(DataError, match="cannot be read"):
        class_vocabulary(tmp_path / "absent.txt")
