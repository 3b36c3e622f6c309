"""``python -m ovd_bench.benchmarks.runner.leash PARENT COMMAND …`` runs a command that ends when its parent does.

So a study that is killed leaves no training behind that would write into the folder of the next one.
"""

from __future__ import annotations

import os
import sys

from ovd_bench.benchmarks.runner.parent import die_with


def main() -> None:
    """Entry point of the process."""
    die_with(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # the signal that the system sends at the parent's end stays set


if __name__ == "__main__":
    main()
