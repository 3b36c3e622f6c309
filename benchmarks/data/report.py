"""What a check of a data set found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """What was found.

    Attributes:
        facts: name -> value.
        wrong: errors, one line each; a data set with errors is not usable.
        remarks: one line each: unusual, but also found in good data.
    """

    facts: dict[str, str | int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
