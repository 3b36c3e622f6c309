"""COCO's protocol with another maximum of detections, other IoU thresholds or area ranges, under a name of its own.

A name such as ``coco_dets-1-10-300_iou-0.5-0.75_small-0-256`` states the whole departure, so that numbers under it can
be neither mistaken for COCO AP nor pooled with it, and whoever has the name can score again. What is as in COCO is not
in the name: a departure that changes nothing is ``coco``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.protocol import AREA_NAMES, AREA_RANGES, IOU_THRESHOLDS, PROTOCOLS, Protocol

_COCO = PROTOCOLS["coco"]
_SIZES = AREA_NAMES[1:]
#: What one pass of the engine holds.
_MOST_LIMITS, _MOST_THRESHOLDS = 3, len(IOU_THRESHOLDS)
_HIGHEST_LIMIT = 10**6
_LARGEST = AREA_RANGES[0][1]
#: Thresholds are rounded to so many digits, and are then those of ``IOU_THRESHOLDS`` where they are equal.
_DIGITS = 10

_NUMBER = r"\d+(?:\.\d+)?(?:[eE]\d+)?"
_AREA = re.compile(rf"(\w+)=({_NUMBER})(\^2)?:(?:({_NUMBER})(\^2)?)?")


def departed(
    name: str | None, max_dets: str | None = None, iou: str | None = None, areas: Sequence[str] = ()
) -> str | None:
    """Name of COCO's protocol with some parameters changed; the given name if none is.

    Args:
        name: of the protocol that the user chose; None = the usual one.
        max_dets: ``1,10,300``: up to three limits of detections per image and class, rising; AP is that of the last.
        iou: ``0.5,0.75`` or ``0.3:0.7:0.1`` (first, last, step): up to ten IoU thresholds, rising.
        areas: ``small=0:32^2``, each with one range or several with commas between: square pixels, inclusive at both
            ends; without an upper end there is none.

    Raises:
        DataError: another protocol than COCO, or a value that means nothing; one line that names the option.
    """
    given = {"--max-dets": max_dets is not None, "--iou": iou is not None, "--area": bool(areas)}
    if not any(given.values()):
        return name
    if name != _COCO.name:
        option = next(option for option, is_given in given.items() if is_given)
        chosen = "the usual one" if name is None else f"'{name}'"
        raise DataError(f"{option} changes COCO's protocol, not {chosen}: give --protocol coco with it")
    protocol = _COCO
    if max_dets is not None:
        protocol = replace(protocol, max_dets=_limits(f"--max-dets {max_dets}", _split(max_dets)))
    if iou is not None:
        words = _range(f"--iou {iou}", iou) if ":" in iou else _split(iou)
        protocol = replace(protocol, iou=_thresholds(f"--iou {iou}", words))
    ranges: dict[str, tuple[float, float]] = {}
    for text in (part for entry in areas for part in _split(entry)):
        found = _AREA.fullmatch(text)
        if found is None or found[1] not in _SIZES:
            raise DataError(
                f"--area {text}: expected small, medium or large=LOW:HIGH in square pixels, as small=0:32^2"
            )
        if found[1] in ranges:
            raise DataError(f"--area {text}: {found[1]} is given twice")
        low, high = _area(found[2], found[3]), _area(found[4], found[5]) if found[4] else _LARGEST
        ranges[found[1]] = _checked_range(f"--area {text}", low, high)
    return _with_areas(protocol, ranges).name


def is_protocol(name: str) -> bool:
    """Whether a protocol has this name: one of ``PROTOCOLS``, or a departure."""
    return _find(name) is not None


def protocol_named(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        DataError: none has it.
    """
    if (found := _find(name)) is None:
        raise DataError(f"unknown protocol '{name}'")
    return found


def departure_text(protocol: Protocol) -> str:
    """What is not as in the official protocol, in words; empty if nothing is."""
    parts = []
    if protocol.max_dets and protocol.max_dets != _COCO.max_dets:
        parts.append(f"{' / '.join(map(str, protocol.max_dets))} detections per image and class")
    if protocol.iou:
        parts.append(f"IoU {', '.join(map(_text, protocol.iou))}")
    for size, (low, high), usual in zip(AREA_NAMES, protocol.area_ranges, AREA_RANGES, strict=True):
        if (low, high) != usual:
            upper = "and more" if high == _LARGEST else f"to {_text(high)}"
            parts.append(f"{size}: {_text(low)} {upper} square pixels")
    return "; ".join(parts)


def _find(name: str) -> Protocol | None:
    """The protocol of a name that is written as ``_name`` writes it."""
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    base, *parts = name.split("_")
    if base != _COCO.name or not parts:
        return None
    protocol, ranges = _COCO, dict[str, tuple[float, float]]()
    try:
        for part in parts:
            key, *words = part.split("-")
            if key == "dets":
                protocol = replace(protocol, max_dets=_limits(name, words))
            elif key == "iou":
                protocol = replace(protocol, iou=_thresholds(name, words))
            elif key in _SIZES and len(words) == 2:
                ranges[key] = _checked_range(name, float(words[0]), float(words[1]))
            else:
                return None
    except (DataError, ValueError):
        return None
    found = _with_areas(protocol, ranges)
    return found if found.name == name else None


def _with_areas(protocol: Protocol, ranges: dict[str, tuple[float, float]]) -> Protocol:
    """The protocol with these ranges, without what is as usual, under its name."""
    areas = tuple(ranges.get(size, usual) for size, usual in zip(AREA_NAMES, AREA_RANGES, strict=True))
    iou = () if protocol.iou == tuple(IOU_THRESHOLDS) else protocol.iou
    changed = replace(protocol, iou=iou, areas=() if areas == AREA_RANGES else areas)
    return replace(changed, name=_name(changed))


def _name(protocol: Protocol) -> str:
    parts = [_COCO.name]
    if protocol.max_dets != _COCO.max_dets:
        parts.append("-".join(["dets", *map(str, protocol.max_dets)]))
    if protocol.iou:
        parts.append("-".join(["iou", *map(_text, protocol.iou)]))
    for size, area, usual in zip(AREA_NAMES, protocol.area_ranges, AREA_RANGES, strict=True):
        if area != usual:
            parts.append("-".join([size, *map(_text, area)]))
    return "_".join(parts)


def _text(number: float) -> str:
    """A number without trailing zeros and without an exponent."""
    return f"{number:.{_DIGITS}f}".rstrip("0").rstrip(".")


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _limits(what: str, words: Sequence[str]) -> tuple[int, ...]:
    limits = [int(word) for word in words if word.isdecimal() and len(word) < 9]
    good = len(limits) == len(words) and 1 <= len(limits) <= _MOST_LIMITS and _rising(limits)
    if not good or not 1 <= limits[0] <= limits[-1] <= _HIGHEST_LIMIT:
        raise DataError(
            f"{what}: expected one to {_MOST_LIMITS} rising whole numbers from 1 to {_HIGHEST_LIMIT:,}, as 1,10,300"
        )
    return tuple(limits)


def _range(what: str, text: str) -> list[str]:
    """The numbers of ``first:last:step``."""
    try:
        first, last, step = map(float, text.split(":"))
    except ValueError:
        first = last = step = math.nan
    steps = (last - first) / step if step > 0 else math.nan
    if not (math.isfinite(steps) and steps >= 0 and abs(steps - round(steps)) < 1e-6):
        raise DataError(f"{what}: expected FIRST:LAST:STEP, such as 0.5:0.95:0.05, where steps lead from first to last")
    return [str(first + step * number) for number in range(min(round(steps), _MOST_THRESHOLDS) + 1)]


def _thresholds(what: str, words: Sequence[str]) -> tuple[float, ...]:
    usual = {round(float(one), _DIGITS): float(one) for one in IOU_THRESHOLDS}
    try:
        numbers = [round(float(word), _DIGITS) for word in words]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= _MOST_THRESHOLDS or not _rising(numbers) or not 0 < numbers[0] <= numbers[-1] <= 1:
        raise DataError(
            f"{what}: expected one to {_MOST_THRESHOLDS} rising IoU thresholds above 0 and up to 1, such as 0.5,0.75"
        )
    return tuple(usual.get(number, number) for number in numbers)


def _area(number: str, squared: str | None) -> float:
    side = float(number)
    return side * side if squared else side


def _checked_range(what: str, low: float, high: float) -> tuple[float, float]:
    low, high = round(low, _DIGITS), round(high, _DIGITS)
    if not 0 <= low < high <= _LARGEST:
        raise DataError(f"{what}: the ends of the range must rise, from 0 to {_LARGEST:.0e} square pixels")
    return low, high


def _rising(numbers: Sequence[float]) -> bool:
    return all(a < b for a, b in pairwise(numbers)) and all(map(math.isfinite, numbers))
