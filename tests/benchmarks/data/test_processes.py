"""Scripts without ``if __name__ == "__main__"`` run once, although processes work for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from pathlib import Path

print("the script runs")
from ovd_bench.benchmarks.data.shapes import write_split
from ovd_bench.tests.benchmarks.data.shapes.worlds import SMALL

write_split(SMALL, "test", Path(sys.argv[1]), workers=2)
print(sys.modules["__main__"].__file__ == __file__)
"""


def test_a_plain_script_is_not_started_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, tmp_path / "data"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.splitlines() == ["the script runs", "True"], done.stderr
    assert (tmp_path / "data" / "test.json").is_file()
