"""Numbers that a test needs to be defined."""

from __future__ import annotations

from collections.abc import Mapping


def number(value: float | None) -> float:
    """The value, which must not be None."""
    assert value is not None
    return value


def defined(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Those metrics that have a value."""
    return {name: value for name, value in metrics.items() if value is not None}
