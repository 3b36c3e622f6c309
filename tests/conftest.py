"""Fixtures shared by all rooms."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Read when Jittor or torch is imported. Tests are small, and several processes with two threads each on two processors
# spend their time waiting for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of small real annotation and result files; they are not part of the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data" / "real"
    folder = Path(os.environ.get("OVD_BENCH_REAL_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real data files are not at {folder}; set OVD_BENCH_REAL_DATA")
    return folder
