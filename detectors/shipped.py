"""Weights inside a package, so that a first run needs no download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.types import DetectorError

_PREFIX = "package:"


def shipped_file(source: str) -> Path | None:
    """Path of ``package:FOLDER/FILE``; None for any other source.

    ``FOLDER`` is a package of the suite, or else of a third party.

    Raises:
        DetectorError: no such package.
    """
    if not source.startswith(_PREFIX):
        return None
    package, _, rest = source.removeprefix(_PREFIX).partition("/")
    spec = importlib.util.find_spec(f"ovd_bench.{package}") or importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise DetectorError(f"weights '{source}': there is no package '{package}'")
    return Path(spec.origin).parent / rest


def check_sum(card: DetectorCard, path: Path, sha256: str) -> None:
    """Check the sha256 of the file of a card.

    Raises:
        DetectorError: it has another sha256.
    """
    if card.weights_sha256 and sha256 != card.weights_sha256:
        raise DetectorError(f"{path}: sha256 is {sha256[:12]}…, the card of '{card.name}' says {card.weights_sha256}")
