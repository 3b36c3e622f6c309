"""``python -m benchmarks.warm``: build every native library, so that no later command waits for the compiler."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.io.native import library as io_library
from metrics.boxes import library as box_library
from metrics.cgf1 import library as presence_library
from metrics.matching import engine

if __name__ == "__main__":
    for build in (engine, io_library, box_library, presence_library):
        build()
    # In a process of its own, which tells of its progress: Jittor's core takes minutes. Scoring works without it.
    if subprocess.run([sys.executable, "-m", "kernels.runtime"], check=False).returncode:
        print("everything but Jittor is ready; 'bench doctor' says what Jittor lacks", file=sys.stderr)
