"""The trainings of a study on disk: which exist, which are finished, which have another configuration.

The folder of a study holds ``study.yaml`` and, per arm and seed, a cell: ``ARM/seed-N`` with all files of a training
(``config.yaml``, ``weights.safetensors`` …), ``results`` with the run that scores it, ``probes/NAME`` with the
run of each probe, ``speed.json`` if speed is measured, and ``log.txt``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ovd_bench.benchmarks.data.catalog.cards import CARDS
from ovd_bench.benchmarks.data.files.atomic import atomic_write, file_sha256
from ovd_bench.benchmarks.data.prompt_files import read_plan
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.benchmarks.speed.record import Measured, read_report
from ovd_bench.benchmarks.store.folders import find_results
from ovd_bench.benchmarks.store.schema import Result
from ovd_bench.benchmarks.studies.definition import Probe, Study
from ovd_bench.benchmarks.studies.resolve import ResolvedStudy, differences, flat
from ovd_bench.benchmarks.training.config import TrainingConfig
from ovd_bench.benchmarks.training.registry import read_config
from ovd_bench.metrics.errors import DataError

#: Names as in ``benchmarks.training.loop``, which is not imported here because it loads numpy and more.
CONFIG, WEIGHTS, CURVE = "config.yaml", "weights.safetensors", "log.jsonl"
RESULTS, PROBES, LOG, STUDY = "results", "probes", "log.txt", "study.yaml"
SPEED, JUDGE = "speed.json", "judge.npz"
_MAX_HEADER = 64 * 2**20


@dataclass(frozen=True)
class Cell:
    """One training of a study, with the run that scores it.

    Attributes:
        arm: name.
        seed: of the training.
        folder: of all its files.
        config: of the training.
        benchmark, limit, probes: see ``Study``.
        judge: similarity matrix of the study, see ``benchmarks.scoring.text_judge``; None = none.
        timed: whether its speed is measured.
    """

    arm: str
    seed: int
    folder: Path
    config: TrainingConfig
    benchmark: str
    limit: int | None
    probes: tuple[Probe, ...] = ()
    judge: Path | None = None
    timed: bool = False

    @property
    def label(self) -> str:
        """Name for people."""
        return f"{self.arm}, seed {self.seed}"

    def core_seconds(self) -> float | None:
        """Processor time of the training so far; None where its log does not say it.

        The weights file does not say it: equal trainings have equal files.
        """
        try:
            last = json.loads((self.folder / CURVE).read_text(encoding="utf-8").splitlines()[-1])
            return float(last["core_seconds"])
        except (OSError, ValueError, LookupError, TypeError):
            return None

    @property
    def weights(self) -> Path:
        """Weights of the training."""
        return self.folder / WEIGHTS

    @property
    def log(self) -> Path:
        """Output of its processes."""
        return self.folder / LOG

    def check(self) -> None:
        """Check that existing files are of this configuration.

        Raises:
            DataError: they are of another one; the message says how it differs and what to do.
        """
        path = self.folder / CONFIG
        if not path.exists():
            return
        try:
            there = read_config(path).resolved()
        except DataError as error:
            raise DataError(f"{error}: remove {self.folder}, or choose another --out") from None
        apart = differences(flat(there), flat(self.config.resolved()))
        if apart:
            key, (old, new) = next(iter(apart.items()))
            more = f" and {len(apart) - 1} more differences" if len(apart) > 1 else ""
            raise DataError(
                printable(f"{self.folder}: was trained with {key} {old}, the study has {new}{more}")
                + ": remove the folder to train it again, or choose another --out"
            )

    def begin(self) -> None:
        """Make the folder with the configuration."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.folder / CONFIG) as file:
            file.write(self.config.as_yaml())

    def trained(self) -> bool:
        """Whether weights of this configuration exist.

        Raises:
            DataError: they are of another one.
        """
        if not self.weights.exists():
            return False
        try:
            recipe = type(self.config).model_validate(training_facts(self.weights).get("recipe"))
        except ValidationError:
            recipe = None
        if recipe is None or recipe.resolved() != self.config.resolved():
            raise DataError(
                f"{self.weights}: made with another configuration than the study's: remove {self.folder} to train it "
                "again, or choose another --out"
            )
        return True

    def results(self, probe: Probe | None = None) -> Path:
        """Results folder of the scored run, or of that of a probe."""
        return self.folder / RESULTS if probe is None else self.folder / PROBES / probe.name

    def result(self, probe: Probe | None = None) -> tuple[Path, Result] | None:
        """Folder and result of the scored run of the existing weights, or of that of a probe."""
        if not self.weights.exists():
            return None
        sha256 = file_sha256(self.weights)
        for path, result in find_results(self.results(probe))[0]:
            images = None if not result.partial else result.benchmark.images
            named = self.benchmark not in CARDS or result.benchmark.name == self.benchmark
            asked = probe is None or (
                result.protocol.plan.sha256 == read_plan(probe.prompts).sha256
                and result.protocol.vocabulary == probe.vocabulary
            )
            judged = probe is not None or self.judge is None or "srp/SRP" in result.metrics
            if result.detector.weights_sha256 == sha256 and named and images == self.limit and asked and judged:
                return path.parent, result
        return None

    @property
    def speed_file(self) -> Path:
        """File of the measured speed."""
        return self.folder / SPEED

    def speed(self) -> Measured | None:
        """Speed of the existing weights, if it was measured.

        Raises:
            DataError: the file is bad.
        """
        if not self.speed_file.exists() or not self.weights.exists():
            return None
        sha256 = file_sha256(self.weights)
        found = (one for one in read_report(self.speed_file).detectors if isinstance(one, Measured))
        return next((one for one in found if one.detector.weights_sha256 == sha256), None)

    def finished(self) -> bool:
        """Whether weights and results exist and belong together; speed is not required.

        Raises:
            DataError: the files are of another configuration.
        """
        self.check()
        return self.trained() and all(self.result(probe) is not None for probe in (None, *self.probes))


def cells_of(resolved: ResolvedStudy, out: Path, arms: Sequence[str] = (), seeds: Sequence[int] = ()) -> list[Cell]:
    """The cells of a study: all arms with the first seed, then with the next.

    Args:
        resolved: the study.
        out: its folder.
        arms: only these; empty = all.
        seeds: only these; empty = all.

    Raises:
        DataError: an unknown arm or seed.
    """
    study = resolved.study
    for name in arms:
        study.arm(name)
    if unknown := sorted(set(seeds) - set(study.seeds)):
        known = ", ".join(map(str, study.seeds))
        raise DataError(f"study '{study.name}' has no seed {unknown[0]}: its seeds are {known}")
    return [
        Cell(
            arm=one.arm.name,
            seed=seed,
            folder=cell_folder(out, one.arm.name, seed),
            config=one.with_seed(seed),
            benchmark=study.benchmark,
            limit=study.limit,
            probes=study.probes,
            judge=out / JUDGE if study.judge else None,
            timed=study.speed and seed == study.seeds[0],
        )
        for seed in study.seeds
        for one in resolved.arms
        if (not arms or one.arm.name in arms) and (not seeds or seed in seeds)
    ]


def cell_folder(out: Path, arm: str, seed: int) -> Path:
    """Folder of a cell."""
    return out / arm / f"seed-{seed}"


def study_folder(study: Study, out: Path | None) -> Path:
    """Folder of a study."""
    return out or Path("runs") / "studies" / study.name


def training_facts(weights: Path) -> dict[str, Any]:
    """Description of the training in a weights file (see ``benchmarks.training.loop``); empty without one.

    Reads the header of the safetensors file, no tensor.

    Raises:
        DataError: it cannot be read.
    """
    for text in _header(weights).get("__metadata__", {}).values():
        try:
            document = json.loads(text)
        except ValueError:
            continue
        # Grounding DINO has a separate entry for them, owl-nano an entry with others
        for facts in (document, document.get("training")) if isinstance(document, dict) else ():
            if isinstance(facts, dict) and "recipe" in facts:
                return facts
    return {}


def stored_numbers(weights: Path) -> int:
    """Number of parameters in a weights file, without a packaged text encoder, which does not learn.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return sum(math.prod(entry["shape"]) for name, entry in _header(weights).items() if name != "__metadata__")
    except (TypeError, KeyError) as error:
        raise DataError(f"{weights}: is not a weights file: its header has an entry without shape") from error


def _header(weights: Path) -> dict[str, Any]:
    """Header of a safetensors file."""
    try:
        with weights.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _MAX_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(file.read(length))
            if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
                raise ValueError("its header is not a JSON object")
            return header
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{weights}: is not a weights file: {error}") from error
