"""What there is to choose from. Nothing here loads a model or reads a data set."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ovd_bench.benchmarks.data.catalog.card import DatasetCard
    from ovd_bench.detectors.card import DetectorCard


def list_detectors() -> list[str]:
    """Names of the detectors: the suite's own, then those of installed packages.

    A package that offers something unusable is warned of; the others still count.
    """
    from ovd_bench.detectors.registry import detector_cards

    return list(detector_cards(lambda problem: warnings.warn(problem, stacklevel=3)))


def list_datasets() -> list[str]:
    """Names of the data sets; what of them is on this machine says ``bench data list``."""
    from ovd_bench.benchmarks.data.catalog.cards import CARDS

    return list(CARDS)


def list_metrics() -> list[str]:
    """Names of the statistics beyond AP, for the parameter ``metrics``."""
    from ovd_bench.benchmarks.scoring.extra_metrics import EXTRA_METRICS

    return list(EXTRA_METRICS)


def list_protocols() -> list[str]:
    """Names of the protocols: kinds of AP, then those of phrase grounding."""
    from ovd_bench.benchmarks.scoring.grounding import GROUNDING
    from ovd_bench.metrics.protocol import PROTOCOLS

    return [*PROTOCOLS, *GROUNDING]


def detector_card(name: str) -> DetectorCard:
    """What is known about a detector.

    Args:
        name: of the list, or ``path/to/file.py:Name``.

    Raises:
        DetectorError: no such detector.
    """
    from ovd_bench.detectors.registry import find_card

    return find_card(name)


def dataset_card(name: str) -> DatasetCard:
    """What is known about a data set.

    Args:
        name: of the list.

    Raises:
        DataError: no such data set.
    """
    from ovd_bench.benchmarks.data.catalog.registry import find_dataset

    return find_dataset(name)
