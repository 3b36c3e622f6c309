"""What a check of a data set found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """What was found.

    Attributes:
        facts: name -> what it is.
        wrong: one line each; any makes the data set unfit.
        remarks: one line each: odd, but usual in good data.
    """

    facts: dict[str, str | int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
