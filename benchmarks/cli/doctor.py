"""``doctor``: which parts of this machine the detectors can use."""

from __future__ import annotations

import typer

from ovd_bench.benchmarks.cli.common import Json, Verbose, console, print_json
from ovd_bench.benchmarks.data.text import printable

_SIGN = {"ok": ("✓", "green"), "failed": ("✗", "bold red"), "absent": ("–", "yellow")}


def doctor(as_json: Json = False, verbose: Verbose = False) -> None:
    """Check Python, packages, compiler, Jittor, PyTorch and CUDA; explain how to fix what is missing."""
    from dataclasses import asdict

    from rich import box
    from rich.table import Table
    from rich.text import Text

    from ovd_bench.benchmarks.machine.doctor import examine, usable

    checks = examine()
    fine = usable(checks)
    if as_json:
        print_json({"usable": fine, "checks": [asdict(check) for check in checks]})
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        sign, style = _SIGN[check.status]
        advice = f"\n→ {printable(check.advice)}" if check.advice else ""
        table.add_row(Text(sign, style), check.name, Text(printable(check.found) + advice))
    out = console(as_json)
    out.print(table)
    out.print("Detectors run on the CPU." if fine else "Detectors do not run here yet.", style="bold")
    if not fine:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        epilog="Examples:\n\n  bench doctor\n\n  bench doctor --json\n\n"
        "✓ found, ✗ missing, – missing but not needed on the CPU. Exit code 1 if detectors cannot run on the CPU."
    )(doctor)
