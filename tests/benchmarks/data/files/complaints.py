"""What an error about a file must name, whatever its wording: the file, and the place in it."""

from __future__ import annotations

import re
from pathlib import Path

_PLACE = re.compile(r"\brecord \d+|field '\w+'|'(?:images|annotations|categories)'|\bbyte \d+$|\bbyte \d+ ")


def assert_names_the_place(complaint: str, path: Path, example: str) -> None:
    """One line that begins with the file and names the same section, record, field and byte as the example."""
    assert complaint.startswith(f"{path}: ")
    assert "\n" not in complaint
    assert _places(complaint.removeprefix(f"{path}: ")) == _places(example), complaint


def _places(message: str) -> list[str]:
    return [place.strip() for place in _PLACE.findall(message)]
