"""Two-way map between canonical names and those of another layout, written once as pairs of templates."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

#: ``#`` stands for a number, ``*`` for the rest of a name.
_PLACEHOLDER = re.compile(r"[#*]")


@dataclass(frozen=True)
class Part:
    """Target of a stored tensor.

    Attributes:
        name: canonical name.
        index, count: the stored tensor is block ``index`` (from 0) of ``count`` equal blocks of rows.
    """

    name: str
    index: int = 0
    count: int = 1


class NameMap:
    """Pairs of templates; a canonical tensor may consist of several foreign ones, stacked along the rows.

    Args:
        rules: canonical template and foreign templates, with the same placeholders in the same order.
    """

    def __init__(self, rules: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        self._to_foreign: list[tuple[re.Pattern[str], tuple[str, ...]]] = []
        self._to_canonical: list[tuple[re.Pattern[str], str, int, int]] = []
        for canonical, foreign in rules:
            self._to_foreign.append((_pattern(canonical), foreign))
            for index, template in enumerate(foreign):
                self._to_canonical.append((_pattern(template), canonical, index, len(foreign)))

    def part(self, foreign: str) -> Part | None:
        """Target of a foreign tensor; None if no rule matches."""
        for pattern, canonical, index, count in self._to_canonical:
            if match := pattern.fullmatch(foreign):
                return Part(_fill(canonical, match.groups()), index, count)
        return None

    def foreign(self, canonical: str) -> tuple[str, ...]:
        """Foreign names of a canonical tensor, in the order of their rows; empty if no rule matches."""
        for pattern, templates in self._to_foreign:
            if match := pattern.fullmatch(canonical):
                return tuple(_fill(template, match.groups()) for template in templates)
        return ()


def multihead(canonical: str, foreign: str, projections: tuple[str, str, str]) -> list[tuple[str, tuple[str, ...]]]:
    """Rules of an attention whose ``in_proj_*`` is stored as three layers in the other layout."""
    return [
        (f"{canonical}.in_proj_*", tuple(f"{foreign}.{name}.*" for name in projections)),
        (f"{canonical}.out_proj.*", (f"{foreign}.out_proj.*",)),
    ]


def _pattern(template: str) -> re.Pattern[str]:
    literal = re.escape(template).replace(r"\#", "#").replace(r"\*", "*")
    return re.compile(literal.replace("#", r"(\d{1,4})").replace("*", "(.+)"))


def _fill(template: str, values: tuple[str, ...]) -> str:
    rest = iter(values)
    return _PLACEHOLDER.sub(lambda _: next(rest), template)
