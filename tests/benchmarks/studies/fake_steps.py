"""Steps of a cell that take no time: a 'training' that writes an empty weights file, a 'run' of a given quality.

As a program:
``python -m ovd_bench.tests.benchmarks.studies.fake_steps STEP CELL QUALITY SEED ANNOTATIONS RESULTS ASKED JUDGE``
with the step ``train``, ``score`` or ``speed``.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:  # a step is a process that must start at once
    from ovd_bench.benchmarks.studies.cells import Cell
    from ovd_bench.benchmarks.studies.definition import Probe

#: Share of wrong labels of a cell; ``crash`` and ``hang`` are trainings that do so.
Quality = float | str


def train(folder: Path, quality: Quality) -> None:
    """Leave weights that say what they come of."""
    print("training", folder)
    if quality == "crash":
        print("error: the loss is not a finite number", file=sys.stderr)
        sys.exit(1)
    if quality == "hang":
        time.sleep(600)
    recipe = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "log.jsonl").write_text('{"step": 1, "core_seconds": 40.0}\n{"step": 2, "core_seconds": 90.0}\n')
    facts = {"recipe": recipe, "threads": 1, "sources": [{"name": "toy", "sha256": "0"}]}
    header = json.dumps({"__metadata__": {"training": json.dumps(facts)}}).encode()
    (folder / "weights.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


def score(
    folder: Path,
    quality: float,
    seed: int,
    annotations: Path,
    results: str = "results",
    asked: str = "names full",
    judge: str = "",
) -> None:
    """Leave a run with its result; with other prompts than usual it is worse."""
    from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
    from ovd_bench.benchmarks.data.files.atomic import file_sha256
    from ovd_bench.benchmarks.data.prompt_files import read_plan
    from ovd_bench.benchmarks.store.protocols import RunProtocol
    from ovd_bench.tests.benchmarks.board.made_runs import make_run

    benchmark = Benchmark("toy", "toy", "val", annotations, annotations.parent / "images", "lvis")
    sha256 = file_sha256(folder / "weights.safetensors")
    plan, vocabulary = asked.split()
    protocol = RunProtocol.of("lvis", read_plan(plan), vocabulary)  # type: ignore[arg-type]
    wrong = quality + (0.0 if results == "results" else 0.15)
    matrix = Path(judge) if judge else None
    shutil.rmtree(folder / results, ignore_errors=True)
    make_run(
        folder / results, benchmark, "toy", wrong=wrong, seed=seed, weights=sha256, protocol=protocol, judge=matrix
    )


def speed(folder: Path) -> None:
    """Leave the speed of a detector that does nothing, under the name of the weights."""
    from ovd_bench.benchmarks.data.files.atomic import file_sha256
    from ovd_bench.benchmarks.speed.measure import measure
    from ovd_bench.benchmarks.speed.record import Flops, write_report
    from ovd_bench.tests.benchmarks.speed import test_speed

    measured = measure(test_speed.request(batches=(1,)), test_speed.SMALL, test_speed.ignore)
    sha256 = file_sha256(folder / "weights.safetensors")
    flops = Flops(value=2_500_000_000, source="detector", counted="all of it", operators={}, not_counted={})
    weights = {"weights": str(folder / "weights.safetensors"), "weights_sha256": sha256}
    detector = measured.detector.model_copy(update=weights)
    written = measured.model_copy(update={"detector": detector, "flops": flops})
    write_report(folder / "speed.json", test_speed.report(written))


@dataclass(frozen=True)
class FakeSteps:
    """See ``benchmarks.studies.run.Steps``.

    Attributes:
        annotations: of the benchmark.
        quality: by arm.
    """

    annotations: Path
    quality: dict[str, Quality] = field(default_factory=dict)

    def train(self, cell: Cell) -> list[str]:
        return self._command("train", cell)

    def score(self, cell: Cell, probe: Probe | None = None) -> list[str]:
        asked = "names full" if probe is None else f"{probe.prompts} {probe.vocabulary}"
        judge = "" if cell.judge is None or probe else str(cell.judge)
        return self._command("score", cell, str(cell.results(probe).relative_to(cell.folder)), asked, judge)

    def speed(self, cell: Cell) -> list[str]:
        return self._command("speed", cell)

    def _command(self, step: str, cell: Cell, results: str = "", asked: str = "", judge: str = "") -> list[str]:
        quality = str(self.quality.get(cell.arm, 0.2))
        module = (sys.executable, "-P", "-m", "ovd_bench.tests.benchmarks.studies.fake_steps")
        place = (str(cell.folder), quality, str(cell.seed), str(self.annotations))
        return [*module, step, *place, results, asked, judge]


if __name__ == "__main__":
    _, name, folder, share, number, gt, place, question, judged = sys.argv
    if name == "train":
        train(Path(folder), share)
    elif name == "speed":
        speed(Path(folder))
    else:
        score(Path(folder), float(share), int(number), Path(gt), place, question, judged)
