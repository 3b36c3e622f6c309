"""Command line of the suite. The verbs are in ``benchmarks/cli``."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path


def main() -> None:
    """Entry point of the installed scripts."""
    from ovd_bench.benchmarks.cli.app import main as run

    run()


def _leave_the_folder() -> None:
    """Take this folder off the path: it comes first for a script, and other packages are called kernels or metrics too.

    Ends the process where another checkout than this is installed: it would run in place of this one.
    """
    root = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != root]
    spec = find_spec("ovd_bench")
    installed = Path(spec.origin).resolve().parent if spec and spec.origin else None
    if installed != root:
        reason = f"ovd_bench is installed from {installed}" if installed else "ovd_bench is not installed"
        print(f"error: {root}: {reason}: run 'make setup' here", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    _leave_the_folder()
    main()
