"""``train``: the suite's own detectors on its own data."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ovd_bench.benchmarks.cli.common import DataRoot, Json, Verbose, console, print_json
from ovd_bench.benchmarks.cli.run_options import Device


def train(
    config: Annotated[
        str, typer.Argument(help="YAML file of a training, or the name of a shipped one.", show_default=False)
    ],
    *,
    data_root: DataRoot,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the training.", show_default="runs/CONFIG")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in the folder.")] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed; default: that of the file.", show_default=False)
    ] = None,
    threads: Annotated[
        int,
        typer.Option(
            min=1, max=256, help="Threads of the network; with one thread, a training is repeatable bit for bit."
        ),
    ] = 1,
    device: Device = "auto",
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train a detector; write weights, log, configuration and checkpoints into one folder."""
    from ovd_bench.benchmarks.training.config import find_config
    from ovd_bench.benchmarks.training.loop import run_training
    from ovd_bench.benchmarks.training.prepared import Machine
    from ovd_bench.benchmarks.training.registry import find_trainer, read_config

    path = find_config(config)
    settings = read_config(path)
    if seed is not None:
        settings = settings.model_copy(update={"seed": seed})
    terminal = console(as_json)
    machine = Machine(data_root, threads, device)
    result = run_training(settings, machine, out or Path("runs") / path.stem, resume=resume, console=terminal)
    if result is None:
        return
    if as_json:
        print_json(result)
        return
    terminal.print(f"{result['steps']} steps, {result['core_seconds'] / 60:.1f} core-minutes", highlight=False)
    terminal.print(f"weights: {result['weights']}", highlight=False, markup=False, soft_wrap=True)
    name = find_trainer(settings.trainer).detector
    command = f"bench run -d {name} -b shapes --weights {shlex.quote(result['weights'])}"
    terminal.print(f"try them: {command}", highlight=False, markup=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command(
        epilog="Examples:\n\n"
        "  bench train owl-nano\n\n"
        "  bench train my.yaml --out runs/mine --threads 2\n\n"
        "  bench train my.yaml --out runs/mine --resume\n\n"
        "  bench train grounding-dino-nano\n\n"
        "  mpiexec -n 2 bench train my.yaml --out runs/mine\n\n"
        "Missing data is rendered first. With a fixed seed and one thread, a run is repeatable bit for bit on one "
        "machine; the weights file records the training. After a kill, --resume continues from the checkpoint.\n\n"
        "Grounding DINO needs the extra 'jittor' and learns from ODVG files, which 'bench data convert' makes from "
        "COCO, LVIS, Objects365, Flickr30k Entities and GoldG. Processes under mpiexec share each batch; they need the "
        "extra 'mpi'."
    )(train)
