"""``score``, ``compare``, ``judge``: numbers from prediction files, without any detector."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ovd_bench.benchmarks.cli.common import (
    Annotations,
    AreaRanges,
    DataRoot,
    IouThresholds,
    Json,
    MaxDets,
    Out,
    Seed,
    Threads,
    Threshold,
    Verbose,
    console,
    print_json,
)
from ovd_bench.benchmarks.data.match import TextMatch
from ovd_bench.benchmarks.data.output_paths import check_file, check_folder
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.metrics.errors import DataError

if TYPE_CHECKING:
    from ovd_bench.benchmarks.scoring.score import Score, ScoreRequest

SomeAnnotations = Annotated[
    Path | None,
    typer.Option(
        "--annotations",
        "-a",
        help="LVIS v1 / v0.5 or COCO instances JSON. Not needed for a run.",
        show_default=False,
    ),
]
BenchmarkName = Annotated[
    str | None, typer.Option("--benchmark", "-b", help="Name of a benchmark, instead of -a.", show_default=False)
]
ApProtocolName = Annotated[
    str | None, typer.Option("--protocol", "-p", help="lvis, lvis-fixed or coco.", show_default="the run's, or lvis")
]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        "-p",
        show_default="the run's, or lvis",
        help="lvis (300 per image over all classes, federated), lvis-fixed (10,000 per class, no image cap), coco, "
        "grounding-recall (phrases: R@1/5/10) or refcoco (expressions: acc@0.5).",
    ),
]

_UNCERTAINTY = (
    "The bootstrap resamples images: a resample draws as many images as there are, with replacement. "
    "The printed interval is the number ± t standard deviations over the resamples (Student's t, 95 %), completed for "
    "classes that few images show: a number always lies in its interval. Percentiles are not used: a "
    "resample holds fewer distinct images, and its AP is higher. To tell two runs apart use [bold]compare[/bold]: both "
    "are scored on the same resamples, what they share (hard images) cancels, and interval and P(B > A) of the "
    "difference come from one distribution. docs/intervals.md has the measured coverage."
)


def score(
    predictions: Annotated[
        str,
        typer.Argument(
            metavar="PREDICTIONS",
            help="COCO/LVIS results JSON, columns as Arrow IPC or Parquet; or a run: its folder, or its detector.",
            show_default=False,
        ),
    ],
    annotations: SomeAnnotations = None,
    benchmark: BenchmarkName = None,
    *,
    data_root: DataRoot,
    protocol: ProtocolName = None,
    max_dets: MaxDets = None,
    iou: IouThresholds = None,
    area: AreaRanges = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            "-m",
            help="Further statistics, comma-separated or repeated: pool, ladder, srp, presence, errors, calibration, "
            "phrases, region, unseen, all.",
        ),
    ] = None,
    bootstrap: Annotated[
        int | None,
        typer.Option(
            min=0, max=100_000, help="Bootstrap resamples of the images; 0 = none.", show_default="0, with --save 1000"
        ),
    ] = None,
    seed: Seed = 0,
    judge: Annotated[Path | None, typer.Option(help="Similarity matrix for srp, made by 'bench judge'.")] = None,
    tables: Annotated[
        Path | None,
        typer.Option(
            help="JSON tables of class names (synset, basic, supercategory, hypernyms), or coco_to_synset.json."
        ),
    ] = None,
    map_phrases: Annotated[
        str,
        typer.Option(
            metavar="RELATION",
            help="Free text: score the class that a phrase names, up to exact, lemma, synonym, hyponym or head.",
        ),
    ] = "",
    images: Annotated[Path | None, typer.Option(help="Folder of the images, for region.")] = None,
    region_judge: Annotated[Path | None, typer.Option(help="open_clip model folder, for region.")] = None,
    threshold: Threshold = 0.5,
    match: Annotated[
        TextMatch,
        typer.Option(
            help="How to read image ids that are strings: id (as in the annotations), or stem (file names, with or "
            "without folder and suffix)."
        ),
    ] = "id",
    per_class: Annotated[Path | None, typer.Option(help="Write AP per class as CSV.")] = None,
    arrays: Annotated[Path | None, typer.Option(help="Write the precision and recall arrays as npz.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Write pictures into this folder.")] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Score a run like 'bench run': write its result.json and per_class.csv.")
    ] = False,
    threads: Threads = 0,
    out: Out = Path("results"),
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Score predictions under a named protocol, bit-identical to the official evaluators."""
    from ovd_bench.benchmarks.store.run_names import find_predictions

    if per_class:
        check_file(per_class)
    if arrays:
        check_file(arrays, (".npz",))
    if plots:
        check_folder(plots)
    source = find_predictions(predictions, out, benchmark)  # a wrong name is told before numpy and others are imported
    from ovd_bench.benchmarks.scoring.grounding import GROUNDING, score_grounding
    from ovd_bench.benchmarks.scoring.score import ScoreRequest, score
    from ovd_bench.metrics.departure import departed

    terminal = console(as_json)
    changes = (max_dets, iou, area or ())
    if protocol in GROUNDING:
        departed(protocol, *changes)  # refuses a change
        if annotations is None:
            raise DataError(f"--protocol {protocol} needs the annotations: -a FILE")
        result = score_grounding(source, annotations, protocol)
        if as_json:
            print_json(result.as_json())
        else:
            from ovd_bench.benchmarks.scoring.tables import grounding_table

            terminal.print(grounding_table(result))
        return
    truth, usual = _truth([source], annotations, benchmark, data_root)
    if save:
        given = (protocol, max_dets, iou, area or None, map_phrases or None, region_judge, images)
        if any(option is not None for option in given):
            raise DataError(
                "--save scores a run by its own protocol: leave out -p, --max-dets, --iou, --area, --map-phrases, "
                "--region-judge and --images"
            )
    request = ScoreRequest(
        source,
        truth,
        departed(protocol or usual, *changes) or usual,
        extra_metrics=metric or [],
        resamples=bootstrap or 0,
        seed=seed,
        threads=threads,
        judge=judge,
        tables=tables,
        threshold=threshold,
        match=match,
        map_phrases=map_phrases,
        region_judge=region_judge,
        images=images,
    )
    outcome = _save(request, bootstrap) if save else score(request)
    if per_class or arrays:
        from ovd_bench.benchmarks.scoring.exports import write_arrays, write_per_class

        if per_class:
            write_per_class(per_class, outcome.gt, outcome.evaluation)
        if arrays:
            write_arrays(arrays, outcome.evaluation)
    if plots:
        from ovd_bench.benchmarks.scoring.plots import write_plots

        write_plots(plots, outcome.gt, outcome.evaluation)
    if as_json:
        print_json(outcome.as_json())
        for note in outcome.notes:
            terminal.print(printable(note), highlight=False, markup=False)
    else:
        from ovd_bench.benchmarks.scoring.tables import score_table

        terminal.print(score_table(outcome))


def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="Run A: its folder, or its detector; or a prediction file.", show_default=False
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="Run B.", show_default=False)],
    annotations: SomeAnnotations = None,
    benchmark: BenchmarkName = None,
    *,
    data_root: DataRoot,
    protocol: ApProtocolName = None,
    bootstrap: Annotated[
        int, typer.Option(min=2, max=100_000, help="Paired bootstrap resamples of the images.")
    ] = 1000,
    seed: Seed = 0,
    per_class: Annotated[Path | None, typer.Option(help="Write the differences per class as CSV.")] = None,
    threads: Threads = 0,
    out: Out = Path("results"),
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Test whether run B is better than run A: paired bootstrap over the images, wins and losses per class."""
    from ovd_bench.benchmarks.store.run_names import find_predictions

    if per_class:
        check_file(per_class)
    first, second = (find_predictions(spec, out, benchmark) for spec in (a, b))  # before numpy and others are imported
    from ovd_bench.benchmarks.scoring.compare import compare_files, comparison_json

    terminal = console(as_json)
    truth, usual = _truth([first, second], annotations, benchmark, data_root)
    protocol = protocol or usual
    gt, comparison, notes = compare_files(
        first, second, truth, protocol, resamples=bootstrap, seed=seed, threads=threads
    )
    if per_class:
        from ovd_bench.benchmarks.scoring.exports import write_class_differences

        write_class_differences(per_class, gt, comparison)
    if as_json:
        print_json(comparison_json(comparison, protocol, (first, second), notes))
    else:
        from ovd_bench.benchmarks.scoring.tables import comparison_table

        terminal.print(comparison_table(comparison, protocol, (a, b)))
    for note in notes:
        terminal.print(printable(note), style="dim", highlight=False, markup=False)


def _truth(paths: list[Path], annotations: Path | None, benchmark: str | None, data_root: Path) -> tuple[Path, str]:
    """Annotation file and usual kind of AP."""
    from ovd_bench.benchmarks.store.prediction_source import find_annotations

    found, usual = find_annotations(paths, annotations, benchmark, data_root)
    if found is None:
        raise typer.BadParameter("a prediction file needs its annotations: -a FILE or -b NAME", param_hint="-a")
    return found, usual


def _save(request: ScoreRequest, bootstrap: int | None) -> Score:
    """Score a run as ``run`` scores it, and write its result."""
    from ovd_bench.benchmarks.runner.score_run import BOOTSTRAP, ScoreOptions, score_run
    from ovd_bench.benchmarks.store.prediction_source import Source

    source = Source.of(request.predictions)
    if source.manifest is None:
        raise DataError(f"{request.predictions}: --save needs the folder of a run")
    options = ScoreOptions(
        request.extra_metrics,
        BOOTSTRAP if bootstrap is None else bootstrap,
        request.seed,
        request.judge,
        request.tables,
        request.threshold,
        request.threads,
    )
    benchmark = source.manifest.benchmark.benchmark(request.annotations)
    command = shlex.join(["bench", *sys.argv[1:]])
    return score_run(source.path, benchmark, options, command=command, engine="local")[0]


def judge(
    annotations: Annotations,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where to write the matrix (.npz).", show_default=False)
    ],
    model: Annotated[
        str, typer.Option(help="'minilm' (packaged) or a local sentence-transformers model directory.")
    ] = "minilm",
    template: Annotated[str | None, typer.Option(help="Prompt with {} for the class name.")] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Build the similarity matrix of class names for semantic R-precision. Needs no network."""
    from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
    from ovd_bench.benchmarks.scoring.text_judge import (
        DEFAULT_TEMPLATE,
        build_similarity,
        describe_similarity,
        save_similarity,
    )

    check_file(output)
    names = read_ground_truth(annotations).categories.names
    similarity = build_similarity(names, model, template or DEFAULT_TEMPLATE)
    save_similarity(output, similarity)
    facts = describe_similarity(similarity)
    if as_json:
        print_json(facts)
    else:
        out = console(as_json)
        for name, value in facts.items():
            out.print(f"{name:18} {printable(value)}", highlight=False, markup=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command(
        epilog="Examples:\n\n"
        "  bench score dets.json -a lvis_v1_val.json\n\n"
        "  bench score dets.arrow -a lvis_v1_val.json -p lvis-fixed --bootstrap 1000 --per-class ap.csv\n\n"
        "  bench score dets.json -a instances_val2017.json -p coco -m ladder,errors --tables coco_to_synset.json\n\n"
        "  bench score dets.json -a instances_val2017.json -p coco --max-dets 1,10,300 --iou 0.5,0.75\n\n"
        "  bench score owl-nano --out runs/bench -m ladder,errors\n\n" + _UNCERTAINTY
    )(score)
    app.command(
        epilog="Examples:\n\n"
        "  bench compare a.json b.json -a lvis_v1_val.json\n\n"
        "  bench compare owl-nano grounding-dino-nano --out runs/bench --per-class differences.csv\n\n" + _UNCERTAINTY
    )(compare)
    app.command(epilog="Example:\n\n  bench judge -a lvis_v1_val.json -o judge.npz")(judge)
