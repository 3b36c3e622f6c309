"""Options of the verbs that run detectors, each declared once; those that ``run`` and ``predict`` share as a class."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Literal

import typer

from ovd_bench.benchmarks.cli.common import AreaRanges, DataRoot, IouThresholds, Json, MaxDets, Out, Verbose, finite
from ovd_bench.benchmarks.data.match import ImageMatch
from ovd_bench.detectors.prompts import PLANS
from ovd_bench.metrics.errors import DataError

if TYPE_CHECKING:
    from ovd_bench.benchmarks.data.catalog.suites import Suite
    from ovd_bench.benchmarks.runner.predict import Engine
    from ovd_bench.benchmarks.runner.request import RunRequest

Detectors = Annotated[
    list[str],
    typer.Option("--detector", "-d", help="Name, or path.py:Name; repeated or comma-separated.", show_default=False),
]
Benchmarks = Annotated[
    list[str],
    typer.Option(
        "--benchmark",
        "-b",
        help="Name of a data set or suite, annotation file, or folder; repeated or comma-separated.",
        show_default=False,
    ),
]
Ap = Annotated[
    str | None,
    typer.Option("--protocol", "-p", help="lvis, lvis-fixed or coco.", show_default="the benchmark's usual one"),
]
Prompts = Annotated[
    str | None,
    typer.Option(
        help=f"Prompt plan: {', '.join(PLANS)}, or a YAML file.",
        show_default="names; raw if cleaning would change names that are not from LVIS",
    ),
]
Mode = Annotated[
    Literal["full", "present", "verified"],
    typer.Option(help="Classes asked for in an image: all, those in it, or those in it and those known to be absent."),
]
CaptionReading = Annotated[
    Literal["annotated", "own"] | None,
    typer.Option(
        help="Queries: a detector of captions gets the annotated phrases, or finds the phrases by itself.",
        show_default="annotated",
    ),
]
ImageSize = Annotated[
    int | None, typer.Option(min=1, help="Side of the network's input, pixels.", show_default="the model's")
]
TopK = Annotated[int | None, typer.Option(min=1, help="(box, class) pairs per image.", show_default="the protocol's")]
Weights = Annotated[str | None, typer.Option(help="Local path or hub id.", show_default="the detector's")]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        help="Entry of a training checkpoint that holds the weights, such as ema_model; needs --weights FILE.pth.",
        show_default="model or state_dict",
    ),
]
ImagesFolder = Annotated[
    Path | None, typer.Option("--images", help="Folder of the images.", show_default="the benchmark's")
]
ImageMatching = Annotated[
    ImageMatch,
    typer.Option(
        "--match",
        help="How images are found in their folder: path (as annotated), or basename (the file of that base name).",
    ),
]
BenchmarkName = Annotated[
    str | None,
    typer.Option("--name", help="Name of data of your own in the results.", show_default="its folder's or file's"),
]
DetectorName = Annotated[
    str | None,
    typer.Option(
        "--detector-name", help="Name in the results, such as that of the weights.", show_default="the card's"
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
DtypeName = Annotated[Literal["float32", "float16", "bfloat16"], typer.Option(help="Type of the network.")]
Batch = Annotated[int, typer.Option(min=1, help="Images per call; halved automatically when memory runs out.")]
ChunkBatch = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Chunks of classes per forward pass, for models that read several classes together; memory grows with it.",
        show_default="the detector's choice",
    ),
]
NmsIou = Annotated[
    float | None,
    typer.Option(
        help="If two boxes of a class have a higher IoU (0 to 1), the lower-scoring one is removed; 1 removes none.",
        show_default="the detector's choice",
    ),
]
DetectTimeout = Annotated[
    float | None,
    typer.Option(
        "--detect-timeout",
        metavar="SECONDS",
        parser=finite,
        help="End a detector that is silent for so long, while it loads or between images; what is finished is kept.",
        show_default="none; after a minute its place is told",
    ),
]
RunSeed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of all random numbers.")]
Shards = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of parts that the images are split into; a killed run loses at most one.",
        show_default="256 images each",
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N images by id; the run is marked as partial.")]
ImageIds = Annotated[
    Path | None, typer.Option(help="Only the images whose ids are in this file; the run is marked as partial.")
]
OverwriteMode = Annotated[
    Literal["missing", "always", "never"],
    typer.Option(help="missing: make missing shards; always: make all again; never: keep a scored run as it is."),
]
EngineName = Annotated[
    Literal["local", "ray"], typer.Option(help="Worker process on this machine, or tasks on a Ray cluster.")
]
CpusPerTask = Annotated[int, typer.Option(min=1, help="Processors per Ray task.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options shared by ``run`` and ``predict``, in the order of the help."""

    detector: Detectors
    benchmark: Benchmarks
    protocol: Ap = None
    max_dets: MaxDets = None
    iou: IouThresholds = None
    area: AreaRanges = None
    prompts: Prompts = None
    vocabulary: Mode = "full"
    reading: CaptionReading = None
    weights: Weights = None
    key: Key = None
    data_root: DataRoot
    images: ImagesFolder = None
    match: ImageMatching = "path"
    name: BenchmarkName = None
    detector_name: DetectorName = None
    image_size: ImageSize = None
    top_k: TopK = None
    device: Device = "auto"
    dtype: DtypeName = "float32"
    batch: Batch = 1
    chunk_batch: ChunkBatch = None
    nms_iou: NmsIou = None
    seed: RunSeed = 0
    detect_timeout: DetectTimeout = None
    shards: Shards = None
    limit: Limit = None
    image_ids: ImageIds = None
    overwrite: OverwriteMode = "missing"
    engine: EngineName = "local"
    cpus_per_task: CpusPerTask = 1
    out: Out = Path("results")
    as_json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False

    def suites(self) -> dict[str, Suite]:
        """The suites among the benchmarks, by what they were asked as.

        Raises:
            DataError: a suite has no data set on this machine, or its list of data sets cannot be read.
        """
        from ovd_bench.benchmarks.data.catalog.registry import located_members
        from ovd_bench.benchmarks.data.catalog.suites import SUITES, find_suite

        found = {spec: suite for spec in split_names(self.benchmark) if (suite := find_suite(spec))}
        for suite in found.values():
            if not located_members(suite, self.data_root):
                missing = f"{suite.name}: none of its {len(suite.members)} data sets is here"
                get = f"'bench data get {suite.name}' says what to download into {self.data_root}"
                raise DataError(f"{missing}: {get if suite.name in SUITES else f'correct the paths in {suite.title}'}")
        if found and self.name is not None:
            raise DataError("--name names a data set of your own; a suite of your own has all names in its suite.yaml")
        return found

    def requests(self, suites: Mapping[str, Suite]) -> list[RunRequest]:
        """One request per detector and benchmark, all paths absolute. A benchmark of two suites is asked for once.

        Args:
            suites: those among the benchmarks.

        Raises:
            DataError: options that exclude each other, or a value that means nothing.
        """
        from ovd_bench.benchmarks.data.catalog.suites import KNOWN
        from ovd_bench.benchmarks.runner.user_request import user_request
        from ovd_bench.metrics.departure import departed

        protocol = departed(self.protocol, self.max_dets, self.iou, self.area or ())
        names_of: dict[str, str | None] = {}
        for spec in split_names(self.benchmark):
            if spec in suites:
                names_of |= {one.spec: None if one.spec in KNOWN else one.name for one in suites[spec].members}
            else:
                names_of[spec] = self.name
        names, specs = split_names(self.detector), list(names_of)
        if self.weights is not None and len(names) > 1:
            raise DataError("--weights needs exactly one --detector")
        if self.images is not None and len(specs) > 1:
            raise DataError("--images needs exactly one --benchmark")
        if self.name is not None and len(specs) > 1:
            raise DataError("--name needs exactly one --benchmark")
        if self.detector_name is not None and len(names) > 1:
            raise DataError("--detector-name needs exactly one --detector")
        return [
            user_request(
                name,
                spec,
                protocol=protocol,
                prompts=self.prompts,
                vocabulary=self.vocabulary,
                reading=self.reading,
                weights=self.weights,
                key=self.key,
                data_root=self.data_root,
                images=self.images,
                match=self.match,
                name=names_of[spec],
                detector_name=self.detector_name,
                image_size=self.image_size,
                top_k=self.top_k,
                device=self.device,
                dtype=self.dtype,
                batch=self.batch,
                chunk_batch=self.chunk_batch,
                nms_iou=self.nms_iou,
                seed=self.seed,
                detect_timeout=self.detect_timeout,
                shards=self.shards,
                limit=self.limit,
                image_ids=self.image_ids,
                out=self.out,
                overwrite=self.overwrite,
            )
            for name in names
            for spec in specs
        ]

    def chosen_engine(self) -> Engine | None:
        """Ray if requested; None = a worker process on this machine."""
        if self.engine == "local":
            return None
        from ovd_bench.benchmarks.runner.ray_engine import RayEngine

        return RayEngine(cpus=self.cpus_per_task, gpu=self.device != "cpu")


def with_run_options(verb: Callable[Concatenate[RunOptions, ...], None]) -> Callable[..., None]:
    """The command of a verb for Typer: the fields of ``RunOptions`` are options; the verb's own come before ``--out``.

    Args:
        verb: its first parameter is the shared options.
    """
    shared = list(inspect.signature(RunOptions, eval_str=True).parameters.values())
    own = list(inspect.signature(verb, eval_str=True).parameters.values())[1:]
    names = [field.name for field in fields(RunOptions)]
    place = names.index("out")

    def command(**values: Any) -> None:
        options = RunOptions(**{name: values.pop(name) for name in names})
        verb(options, **values)

    parameters = [
        parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in (*shared[:place], *own, *shared[place:])
    ]
    command.__name__, command.__doc__ = verb.__name__, verb.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def split_names(entries: list[str]) -> list[str]:
    """Names in a repeated or comma-separated option, each once."""
    return list(dict.fromkeys(name.strip() for entry in entries for name in entry.split(",") if name.strip()))
