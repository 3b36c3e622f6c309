"""``run`` and ``predict``: detectors on benchmarks."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from ovd_bench.benchmarks.cli.common import DataRoot, Json, Out, Threads, Verbose, console, print_json
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.detectors.prompts import PLANS
from ovd_bench.metrics.types import DataError

if TYPE_CHECKING:
    from ovd_bench.benchmarks.runner.predict import Engine
    from ovd_bench.benchmarks.runner.request import RunRequest
    from ovd_bench.benchmarks.runner.sweep import RunReport, Sweep

Detectors = Annotated[
    list[str],
    typer.Option("--detector", "-d", help="Name, or path.py:Name; repeated or comma-separated.", show_default=False),
]
Benchmarks = Annotated[
    list[str],
    typer.Option(
        "--benchmark", "-b", help="Name, or annotation file; repeated or comma-separated.", show_default=False
    ),
]
Ap = Annotated[
    str | None,
    typer.Option("--protocol", "-p", help="lvis, lvis-fixed or coco.", show_default="the benchmark's usual one"),
]
Prompts = Annotated[str, typer.Option(help=f"Prompt plan: {', '.join(PLANS)}, or a YAML file.")]
Mode = Annotated[
    Literal["full", "present", "verified"],
    typer.Option(help="Classes asked for in an image: all, those in it, or these and those known to be absent."),
]
ImageSize = Annotated[
    int | None, typer.Option(min=1, help="Side that the network sees, pixels.", show_default="the model's")
]
TopK = Annotated[int | None, typer.Option(min=1, help="(box, class) pairs per image.", show_default="the protocol's")]
Weights = Annotated[str | None, typer.Option(help="Local path or hub id.", show_default="the detector's")]
ImagesFolder = Annotated[
    Path | None, typer.Option("--images", help="Folder of the images.", show_default="the benchmark's")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
DtypeName = Annotated[Literal["float32", "float16", "bfloat16"], typer.Option(help="Type of the network.")]
Batch = Annotated[int, typer.Option(min=1, help="Images per call; halved by itself when memory runs out.")]
ChunkBatch = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Chunks of classes that a model which reads them together takes at once; memory grows with it.",
        show_default="the detector's choice",
    ),
]
NmsIou = Annotated[
    float | None,
    typer.Option(
        help="Of two boxes of a class that overlap by more (IoU, 0 to 1) the lesser is dropped; 1 = none is.",
        show_default="the detector's choice",
    ),
]
RunSeed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of everything random.")]
Shards = Annotated[
    int | None,
    typer.Option(
        min=1, help="Parts that the images are cut into; a killed run loses one.", show_default="256 images each"
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N images by id; marked as partial.")]
ImageIds = Annotated[Path | None, typer.Option(help="Only the images whose ids are in this file; marked as partial.")]
OverwriteMode = Annotated[
    Literal["missing", "always", "never"],
    typer.Option(help="missing: make what is not there; always: all anew; never: leave a scored run as it is."),
]
EngineName = Annotated[Literal["local", "ray"], typer.Option(help="Worker process here, or tasks on a Ray cluster.")]
CpusPerTask = Annotated[int, typer.Option(min=1, help="Processors that a Ray task asks for.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]

_EXIT = (
    "Exit codes: 0 done, 1 error, 2 usage, 3 some shards or runs failed (the same command resumes), "
    "130 interrupted (likewise)."
)


def run(
    detector: Detectors,
    benchmark: Benchmarks,
    protocol: Ap = None,
    prompts: Prompts = "names",
    vocabulary: Mode = "full",
    weights: Weights = None,
    data_root: DataRoot = Path("data"),
    images: ImagesFolder = None,
    image_size: ImageSize = None,
    top_k: TopK = None,
    device: Device = "auto",
    dtype: DtypeName = "float32",
    batch: Batch = 1,
    chunk_batch: ChunkBatch = None,
    nms_iou: NmsIou = None,
    seed: RunSeed = 0,
    shards: Shards = None,
    limit: Limit = None,
    image_ids: ImageIds = None,
    overwrite: OverwriteMode = "missing",
    engine: EngineName = "local",
    cpus_per_task: CpusPerTask = 1,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            "-m",
            help="Further statistics, comma-separated or repeated.",
            show_default="pool, ladder, presence, errors, calibration, unseen",
        ),
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, max=100_000, help="Bootstrap resamples of the images.")] = 1000,
    judge: Annotated[Path | None, typer.Option(help="Similarity matrix for srp, made by 'bench judge'.")] = None,
    tables: Annotated[
        Path | None, typer.Option(help="JSON tables of class names.", show_default="the benchmark's")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Score threshold of the presence decision.")] = 0.5,
    threads: Threads = 0,
    out: Out = Path("results"),
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Predict and score: detectors on benchmarks, one run after the other. A run that was cut short is resumed.

    All statistics are in the run's result.json; 'bench report RUN' shows them, 'bench board' ranks the runs.
    """
    from ovd_bench.benchmarks.runner.score_run import ScoreOptions
    from ovd_bench.benchmarks.runner.sweep import Sweep
    from ovd_bench.benchmarks.scoring.extra_metrics import wanted_extras

    wanted_extras(metric or [], set())  # refuse a misspelt name before hours of work
    requests = _requests(
        detector,
        benchmark,
        weights=weights,
        data_root=data_root,
        images=images,
        ap=protocol,
        prompts=prompts,
        vocabulary=vocabulary,
        image_size=image_size,
        top_k=top_k,
        device=device,
        dtype=dtype,
        batch=batch,
        chunk_batch=chunk_batch,
        nms_iou=nms_iou,
        seed=seed,
        shards=shards,
        limit=limit,
        image_ids=image_ids,
        out=out,
        overwrite=overwrite,
    )
    options = ScoreOptions(metric or [], bootstrap, judge=judge, tables=tables, threshold=threshold, threads=threads)
    sweep = Sweep(
        Console(stderr=True),
        shlex.join(["bench", *sys.argv[1:]]),
        options,
        engine=_engine(engine, device, cpus_per_task),
        quiet=quiet,
        verbose=verbose,
    )
    _carry_out(sweep, requests, as_json=as_json)


def predict(
    detector: Detectors,
    benchmark: Benchmarks,
    protocol: Ap = None,
    prompts: Prompts = "names",
    vocabulary: Mode = "full",
    weights: Weights = None,
    data_root: DataRoot = Path("data"),
    images: ImagesFolder = None,
    image_size: ImageSize = None,
    top_k: TopK = None,
    device: Device = "auto",
    dtype: DtypeName = "float32",
    batch: Batch = 1,
    chunk_batch: ChunkBatch = None,
    nms_iou: NmsIou = None,
    seed: RunSeed = 0,
    shard: Annotated[
        str | None, typer.Option(metavar="K/N", help="Only shard K of N, counted from 0.", show_default="all")
    ] = None,
    shards: Shards = None,
    limit: Limit = None,
    image_ids: ImageIds = None,
    overwrite: OverwriteMode = "missing",
    engine: EngineName = "local",
    cpus_per_task: CpusPerTask = 1,
    out: Out = Path("results"),
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Predict only, all or one shard. Doing it twice changes nothing; 'bench score RUN --save' merges and scores."""
    from ovd_bench.benchmarks.runner.sweep import Sweep

    only, count = _shard(shard, shards)
    if only is not None and engine == "ray":
        raise DataError("--shard makes one shard here; --engine ray makes all of them on the cluster")
    requests = _requests(
        detector,
        benchmark,
        weights=weights,
        data_root=data_root,
        images=images,
        ap=protocol,
        prompts=prompts,
        vocabulary=vocabulary,
        image_size=image_size,
        top_k=top_k,
        device=device,
        dtype=dtype,
        batch=batch,
        chunk_batch=chunk_batch,
        nms_iou=nms_iou,
        seed=seed,
        shards=count,
        limit=limit,
        image_ids=image_ids,
        out=out,
        overwrite=overwrite,
    )
    sweep = Sweep(
        Console(stderr=True),
        shlex.join(["bench", *sys.argv[1:]]),
        None,
        only,
        engine=_engine(engine, device, cpus_per_task),
        quiet=quiet,
        verbose=verbose,
    )
    _carry_out(sweep, requests, as_json=as_json)


def _carry_out(sweep: Sweep, requests: list[RunRequest], *, as_json: bool) -> None:
    """Run, print, and exit with what came of it."""
    out = console(as_json)
    reports: list[RunReport] = []
    try:
        for report in sweep.run(requests):
            reports.append(report)
            if not as_json or report.problem:
                _show(report, out, alone=len(requests) == 1)
    except KeyboardInterrupt:
        sweep.console.print("interrupted: the same command resumes", markup=False)
        raise typer.Exit(130) from None
    if as_json:
        print_json({"runs": [_document(report) for report in reports]})
    problems = [report for report in reports if report.problem]
    if problems:
        begun = len(problems) < len(reports) or any(report.folder for report in problems)
        raise typer.Exit(3 if begun else 1)


def _show(report: RunReport, out: Console, *, alone: bool) -> None:
    """A table for a single run, a line for each of a sweep, which the board puts into a table."""
    if report.problem:
        print("error:", printable(f"{report.label}: {report.problem}"), file=sys.stderr)
        return
    out.print(Text(printable(report.label), style="bold"), end=" " if report.score and not alone else "\n")
    if report.score is not None:
        from ovd_bench.benchmarks.scoring.tables import run_line, run_table

        out.print(run_table(report.score) if alone else run_line(report.score))
    out.print(printable(str(report.folder)), style="dim", markup=False, highlight=False, soft_wrap=True)


def _document(report: RunReport) -> dict[str, Any]:
    return {
        "run": report.label,
        "folder": None if report.folder is None else str(report.folder),
        "problem": report.problem or None,
        "result": None if report.result is None else report.result.model_dump(mode="json", by_alias=True),
    }


def _requests(
    detectors: list[str], benchmarks: list[str], *, weights: str | None, images: Path | None, **parts: Any
) -> list[RunRequest]:
    """One request per detector and benchmark, all paths absolute.

    Raises:
        DataError: options that do not go together.
    """
    from ovd_bench.benchmarks.runner.user_request import user_request

    names, specs = _split(detectors), _split(benchmarks)
    if weights is not None and len(names) > 1:
        raise DataError("--weights goes with one --detector")
    if images is not None and len(specs) > 1:
        raise DataError("--images goes with one --benchmark")
    return [user_request(name, spec, weights=weights, images=images, **parts) for name in names for spec in specs]


def _split(entries: list[str]) -> list[str]:
    return list(dict.fromkeys(name.strip() for entry in entries for name in entry.split(",") if name.strip()))


def _shard(shard: str | None, shards: int | None) -> tuple[list[int] | None, int | None]:
    """The shards to make (None = all) and their number."""
    if shard is None:
        return None, shards
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    if match is None or not int(match[1]) < int(match[2]) or shards not in (None, int(match[2])):
        raise DataError(f"--shard {shard}: K/N is needed, K from 0 to N - 1, and N as in --shards")
    return [int(match[1])], int(match[2])


def _engine(name: str, device: str, cpus: int) -> Engine | None:
    if name == "local":
        return None
    from ovd_bench.benchmarks.runner.ray_engine import RayEngine

    return RayEngine(cpus=cpus, gpu=device != "cpu")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command(
        epilog="Examples:\n\n"
        "  bench run -d owl-nano -b shapes\n\n"
        "  bench run -d owlv2-base-patch16,grounding-dino-tiny-hf -b lvis-minival -p lvis-fixed --batch 8\n\n"
        "  bench run -d my_detector.py:Mine -b instances_val.json --limit 100\n\n" + _EXIT
    )(run)
    app.command(
        epilog="Examples:\n\n"
        "  bench predict -d owl-nano -b shapes --shards 16\n\n"
        "  bench predict -d owlv2-base-patch16 -b lvis-minival --shard $SLURM_ARRAY_TASK_ID/16\n\n" + _EXIT
    )(predict)
