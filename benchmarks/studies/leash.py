"""Becomes another command that ends when its parent does: ``python -m benchmarks.studies.leash PARENT COMMAND …``.

So a study that is killed leaves no training behind that would write into the folder of the next one.
"""

from __future__ import annotations

import os
import sys

from benchmarks.runner.parent import die_with


def main() -> None:
    """Entry point of the process."""
    die_with(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # the signal that the system sends at the parent's end stays set


if __name__ == "__main__":
    main()
