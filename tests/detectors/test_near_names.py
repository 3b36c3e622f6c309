"""Messages on unknown names."""

from __future__ import annotations

import pytest

from ovd_bench.detectors.near_names import unknown_name
from ovd_bench.detectors.registry import find_card
from ovd_bench.detectors.types import DetectorError


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("owl-nanoo", "did you mean 'owl-nano'?"),
        ("OWL-Nano", "did you mean 'owl-nano'?"),
        ("dots", "did you mean 'Grid of dots' or 'dots on a grid'?"),
        ("xyz", "choose one"),
        ("", "choose one"),
    ],
)
def test_nearest_name(name: str, end: str) -> None:
    known = ["owl-nano", "colour-blobs", "Grid of dots", "dots on a grid"]
    assert unknown_name(f"no thing '{name}'", name, known, "choose one") == f"no thing '{name}': {end}"


def test_detector() -> None:
    with pytest.raises(DetectorError, match=r"^no detector 'owl-nanoo': did you mean 'owl-nano'\?$"):
        find_card("owl-nanoo")


def test_without_another_end_the_names_are_listed() -> None:
    assert unknown_name("no 'x'", "x", ["lvis", "coco"]) == "no 'x': choose from lvis, coco"
