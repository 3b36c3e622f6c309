"""``python -m ovd_bench.benchmarks.machine.warm``: build all native libraries in advance."""

from __future__ import annotations

import subprocess
import sys

from ovd_bench.benchmarks.data.files.native import library as io_library
from ovd_bench.metrics.boxes import library as box_library
from ovd_bench.metrics.cgf1 import library as presence_library
from ovd_bench.metrics.matching import engine

if __name__ == "__main__":
    for build in (engine, io_library, box_library, presence_library):
        build()
    # In a separate process with progress output: Jittor's core takes minutes. Scoring works without it.
    if subprocess.run([sys.executable, "-m", "ovd_bench.kernels.runtime"], check=False).returncode:
        print("everything but Jittor is ready; 'bench doctor' says what Jittor lacks", file=sys.stderr)
