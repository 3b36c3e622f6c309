"""The folder of the data sets where the user names none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from platformdirs import user_data_path

import ovd_bench
from ovd_bench.benchmarks.data.text import printable

#: Environment variable that names the folder.
VARIABLE = "OVD_BENCH_DATA"


def default_data_root() -> Path:
    """Folder of the data sets, the same whatever the current folder is, but for one that has data sets in ``data``.

    In this order: ``$OVD_BENCH_DATA``; ``data`` in the current folder if data sets of the suite are there; ``data`` in
    the checkout that the suite runs from; the user's data folder.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named)
    here = Path("data")
    return here if _has_data_sets(here) else _place()


def tell_new_place(data_root: Path) -> None:
    """Say on stderr where data sets are kept from now on, unless the user chose the folder or it exists."""
    if not data_root.exists() and data_root.absolute() == _place() and not os.environ.get(VARIABLE):
        line = f"data sets are kept in {data_root}; --data-root or {VARIABLE} names another folder"
        print(printable(line), file=sys.stderr)


def _place() -> Path:
    """Of this installation."""
    checkout = Path(ovd_bench.__file__).resolve().parent
    if (checkout / "pyproject.toml").is_file():
        return checkout / "data"
    return user_data_path("ovd-bench")


def _has_data_sets(folder: Path) -> bool:
    from ovd_bench.benchmarks.data.catalog.cards import CARDS

    return folder.is_dir() and any((folder / place).exists() for card in CARDS.values() for place in card.annotations)
