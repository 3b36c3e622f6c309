"""Which speeds of a table may be compared, and marks for those that may not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ovd_bench.benchmarks.store.schema import Result

#: Marks behind a number of images per second.
DOUBTED, OLD_WAY = "†", "‡"
_OLD_WAY = "made the old way"
_ALONE = {True: "measured alone", False: "not measured alone", None: "perhaps not measured alone"}


@dataclass(frozen=True)
class Comparable:
    """Rows whose speeds may be compared.

    Attributes:
        rows: their numbers; measured alone, with equal setup. Empty if no two rows are comparable.
        setup: machine, device, threads and batch of these rows.
        left_out: a line per reason with the names of other rows that have a speed.
    """

    rows: tuple[int, ...]
    setup: str
    left_out: tuple[str, ...]


def speed_mark(result: Result) -> str:
    """Mark of a speed that was not measured alone, or the old way; empty where there is nothing to say."""
    speed = result.speed
    if speed.images_per_second is None:
        return ""
    if speed.warm is None:
        return OLD_WAY
    return "" if speed.warm.alone else DOUBTED


def speed_method(result: Result) -> str | None:
    """``warm median`` or ``wall time``; None without a speed."""
    if result.speed.images_per_second is None:
        return None
    return "wall time" if result.speed.warm is None else "warm median"


def measured_alone(result: Result) -> bool | None:
    """Whether nothing else ran during the run; None where it is not known."""
    return None if result.speed.warm is None else result.speed.warm.alone


def speed_notes(names: Sequence[str], results: Sequence[Result]) -> list[str]:
    """What the marks mean, and which rows have them.

    Args:
        names: names of n rows.
        results: their results.
    """
    lines = []
    rows = [(name, result) for name, result in zip(names, results, strict=True) if speed_mark(result)]
    for alone in (False, None):
        found = [
            f"{name} ({'; '.join(result.speed.warm.reasons)})"
            for name, result in rows
            if result.speed.warm is not None and result.speed.warm.alone is alone
        ]
        if found:
            lines.append(f"{DOUBTED} images/s {_ALONE[alone]}: {', '.join(found)}")
    old = [name for name, result in rows if result.speed.warm is None]
    if old:
        lines.append(
            f"{OLD_WAY} images/s {_OLD_WAY} (images by wall time, with compilation, waiting for files and other load): "
            f"{', '.join(old)}; run again to measure it"
        )
    return lines


def comparable(names: Sequence[str], results: Sequence[Result]) -> Comparable:
    """The most rows that were measured alone with equal setup; of equally many, those of the best row.

    Args:
        names: names of n rows, best first.
        results: their results.
    """
    setups: dict[str, list[int]] = {}
    others: dict[str, list[str]] = {}
    for number, (name, result) in enumerate(zip(names, results, strict=True)):
        if result.speed.images_per_second is None:
            continue
        if result.speed.warm is None:
            others.setdefault(_OLD_WAY, []).append(name)
        elif not result.speed.warm.alone:
            others.setdefault(_ALONE[result.speed.warm.alone], []).append(name)
        else:
            setups.setdefault(_setup(result, result.speed.warm.threads), []).append(number)
    chosen = max(setups, key=lambda setup: len(setups[setup]), default="")
    rows = setups.get(chosen, [])
    if len(rows) < 2:
        chosen, rows = "", []
    for setup, members in setups.items():
        if setup != chosen:
            others[f"measured on {setup}"] = [names[number] for number in members]
    return Comparable(tuple(rows), chosen, tuple(f"{', '.join(who)}: {why}" for why, who in others.items()))


def _setup(result: Result, threads: int) -> str:
    """All that must be equal: machine, device, threads, images per batch."""
    env, run = result.env, result.run
    machine = f"{env.cpu}, {env.cores} cores, {threads} threads"
    device = f"{', '.join(env.gpus) or 'a GPU'}; {machine}" if run.device.startswith("cuda") else machine
    return f"{device}, batch {run.batch}"


def speed_facts(result: Result) -> str:
    """Times of a run with loading and first call apart, in one line."""
    speed, warm = result.speed, result.speed.warm
    parts = [f"loading {speed.load_seconds:.1f} s"]
    if warm is None:
        return f"{parts[0]}; {_OLD_WAY}"
    if warm.first_call_seconds is not None:
        parts.append(f"first call {warm.first_call_seconds:.2f} s")
    if warm.image_seconds is None:
        parts.append("no warm call")
    else:
        parts.append(f"median of {warm.images:,} warm images {1000 * warm.image_seconds:.1f} ms")
    parts.append(f"{warm.threads} threads")
    return "; ".join([", ".join([*parts, _ALONE[warm.alone]]), *warm.reasons])
