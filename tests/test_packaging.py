"""How the suite is installed and called."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: What people read: messages, help, pages, configurations.
_READ = {".py", ".md", ".yaml", ".j2"}


def _said(*command: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    found = os.environ | {"COLUMNS": "100"} | environment
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=cwd, env=found)


def test_a_checkout_and_the_installed_script_do_the_same() -> None:
    script = Path(sys.executable).with_name("bench")
    for arguments in (["--help"], ["list"], ["run", "--help"], ["score"]):
        forms = [
            _said(sys.executable, ROOT / "bench.py", *arguments),
            _said(sys.executable, "-m", "ovd_bench.bench", *arguments),
            *([_said(script, *arguments), _said(script.with_name("ovd-bench"), *arguments)] if script.exists() else []),
        ]
        assert len({(form.stdout, form.stderr, form.returncode) for form in forms}) == 1, arguments


def test_another_checkout_is_not_taken_for_the_installed_one(tmp_path: Path) -> None:
    shutil.copy(ROOT / "bench.py", tmp_path)
    done = _said(sys.executable, tmp_path / "bench.py", "list")
    assert done.returncode == 1
    assert "is installed from" in done.stderr
    assert done.stderr.count("\n") == 1


def test_advice_names_the_command_that_is_installed() -> None:
    """``bench.py`` exists in a checkout only."""
    tracked = _said("git", "ls-files").stdout.split("\n")
    for name in tracked:
        if Path(name).suffix in _READ and not name.startswith(("results/", "CHANGELOG")):
            found = re.search(r"(?<![/`])\bbench\.py (?!in )[a-z-]+", (ROOT / name).read_text())
            assert not found, f"{name}: {found[0] if found else ''}"


def test_recorded_commands_work_on_other_machines() -> None:
    """A shipped row is repeated by pasting its command, so it names no folder of the machine that made it."""
    rows = list((ROOT / "results").glob("shapes/*/*/result.json"))
    assert rows
    for row in rows:
        command = json.loads(row.read_text())["run"]["command"]
        assert not re.search(r"\s/", command), f"{row}: {command}"
