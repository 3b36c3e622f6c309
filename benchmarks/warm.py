"""Build every native library, so that the first real command does not wait for the compiler: ``python -m benchmarks.warm``."""

from __future__ import annotations

from benchmarks.io.native import library as io_library
from metrics.boxes import library as box_library
from metrics.cgf1 import library as presence_library
from metrics.matching import engine

if __name__ == "__main__":
    for build in (engine, io_library, box_library, presence_library):
        build()
