"""``show``, ``detect``: boxes on images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ovd_bench.benchmarks.cli.common import DataRoot, Json, Out, Verbose, console, finite, print_json
from ovd_bench.benchmarks.cli.run_options import Key
from ovd_bench.benchmarks.data.match import ImageMatch
from ovd_bench.benchmarks.data.output_paths import check_file, check_folder
from ovd_bench.benchmarks.data.text import printable


def show(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Folder, detector, detector@weights8 or prediction file; comma-separated or several.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture.")] = Path("show.png"),
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=200, help="Images.")] = 12,
    worst: Annotated[bool, typer.Option("--worst", help="Show the images with the lowest F1.")] = False,
    disagree: Annotated[
        bool,
        typer.Option(
            "--disagree",
            help="Images with objects that some runs find and others do not; the default for two runs or more.",
        ),
    ] = False,
    only: Annotated[str | None, typer.Option("--class", metavar="NAME", help="Only this class.")] = None,
    ids: Annotated[str | None, typer.Option("--ids", help="Ids of the images to show, comma-separated.")] = None,
    benchmark: Annotated[
        str | None,
        typer.Option("--benchmark", "-b", help="Benchmark; needed for prediction files and ambiguous names."),
    ] = None,
    annotations: Annotated[Path | None, typer.Option("--annotations", "-a", help="LVIS or COCO JSON.")] = None,
    images: Annotated[Path | None, typer.Option("--images", help="Folder of the images.")] = None,
    match: Annotated[
        ImageMatch | None,
        typer.Option(
            help="How images are found in their folder: path (as annotated), or basename (the file of that base name).",
            show_default="as in the run, else path",
        ),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", "-p", help="lvis, lvis-fixed or coco: which detections count.")
    ] = None,
    cell: Annotated[int, typer.Option(min=64, max=2000, help="Longer side of a picture, pixels.")] = 420,
    out: Out = Path("results"),
    *,
    data_root: DataRoot,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show runs side by side on the same images: ground truth first, then each run at its own best threshold."""
    from ovd_bench.benchmarks.pictures.gallery.pictures import LEGEND, gallery, save_png
    from ovd_bench.benchmarks.pictures.gallery.runs import find_benchmark, find_runs, gallery_data
    from ovd_bench.benchmarks.pictures.gallery.select import Order, select_images
    from ovd_bench.benchmarks.store.run_names import split_specs
    from ovd_bench.metrics.errors import DataError

    if sum((worst, disagree, ids is not None)) > 1:
        raise DataError("--worst, --disagree and --ids exclude each other")
    check_file(output, (".png",))
    terminal = console(as_json)
    chosen = find_runs(split_specs(runs), out, benchmark)
    if disagree and len(chosen) < 2:
        raise DataError("--disagree needs two runs or more")
    place = find_benchmark(chosen, data_root, name=benchmark, annotations=annotations, images=images, match=match)
    setting = gallery_data(chosen, place, protocol)
    class_filter = None if only is None else setting.class_position(only)
    matched = setting.match_runs(chosen, class_filter)
    if ids is not None:
        positions, how = setting.image_positions(_numbers(ids)), "The images asked for"
    else:
        order: Order | None = "worst" if worst else "disagree" if disagree else None
        positions, how = select_images(setting, matched, order, count)
    save_png(output, gallery(setting.gt, matched, positions, setting.read, cell=cell))
    for line in dict.fromkeys(setting.unreadable):
        terminal.print(printable(line), style="yellow", highlight=False, markup=False)
    if as_json:
        quality = [run.quality(setting.gt.num_images) for run in matched]
        shown = [
            {
                "id": int(setting.gt.image_ids[p]),
                "f1": {o.name: float(q[p]) for o, q in zip(matched, quality, strict=True)},
            }
            for p in positions
        ]
        points = {o.name: {"threshold": o.finite_threshold, "f1": o.f1} for o in matched}
        print_json({"file": str(output), "how": how, "operating_points": points, "images": shown})
        return
    for line in (how, LEGEND, f"wrote {output}"):
        terminal.print(printable(line), highlight=False, markup=False)


def detect(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", help="Files, folders or patterns such as 'photos/*.jpg'.", show_default=False),
    ],
    detector: Annotated[
        str,
        typer.Option("--detector", "-d", help="Name, or path/to/file.py:Name.", show_default=False),
    ],
    prompt: Annotated[
        str | None,
        typer.Option(help="Classes, separated by dots, commas, semicolons or line breaks: 'a cat. a dog.'"),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME", help="A class, as it is: 'St. Bernard'; repeated.", show_default=False),
    ] = None,
    classes: Annotated[Path | None, typer.Option(help="Text file with one class per line.")] = None,
    caption: Annotated[str | None, typer.Option(help="A sentence whose phrases are detected.")] = None,
    weights: Annotated[str | None, typer.Option(help="Local folder or file, or hub id.")] = None,
    key: Key = None,
    threshold: Annotated[
        float, typer.Option(parser=finite, metavar="FLOAT", help="Minimum score of shown boxes.")
    ] = 0.3,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=10_000, help="Maximum number of boxes per image.")
    ] = 50,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A picture of all (.png), or a folder for a picture of each and detections.json.",
            show_default="none",
        ),
    ] = None,
    raw: Annotated[
        Path | None,
        typer.Option(
            help="npz file for the raw output of the network; needs --caption and one image.", show_default="none"
        ),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Detect classes or phrases of your choice in your images; prints tables and draws pictures."""
    from ovd_bench.benchmarks.data.images import ImageError, read_image
    from ovd_bench.benchmarks.pictures.detect import (
        PLAN,
        OutputFolder,
        class_vocabulary,
        detect_again,
        detect_caption,
        draw_found,
        found_table,
        image_files,
        plain_vocabulary,
        prompt_vocabulary,
        save_raw,
    )
    from ovd_bench.benchmarks.pictures.gallery.pictures import save_png
    from ovd_bench.benchmarks.runner.loading import choose_device
    from ovd_bench.detectors.interface import DetectorSettings
    from ovd_bench.detectors.registry import find_card, load_detector
    from ovd_bench.metrics.errors import DataError

    if sum(option is not None for option in (prompt, names, classes, caption)) != 1:
        raise DataError("say what to look for with one of --prompt, --class NAME, --classes FILE, --caption")
    into_folder = output is not None and output.suffix == ""
    if output is not None:
        check_folder(output) if into_folder else check_file(output, (".png",))
    if raw is not None:
        check_file(raw)
    vocabulary = prompt_vocabulary(prompt) if prompt is not None else None
    if names is not None:
        vocabulary = plain_vocabulary(names, "--class names no class: write, for example, --class 'St. Bernard'")
    if classes is not None:
        vocabulary = class_vocabulary(classes)
    files = image_files(images)
    if raw is not None and (caption is None or len(files) != 1):
        raise DataError("--raw needs --caption and one image")
    first = read_image(1, files[0]) if files[0] in images else None  # refused before the detector is loaded
    if key is not None and weights is None:
        raise DataError(f"--key {key} needs --weights: it is an entry of that file")
    settings = DetectorSettings(
        weights=weights, weights_key=key, device=choose_device(device, find_card(detector).framework)
    )
    loaded = load_detector(detector, settings)
    if vocabulary is not None:
        loaded.set_vocabulary(vocabulary, PLAN)
    folder = OutputFolder(output) if output is not None and into_folder else None
    card, terminal = loaded.card, console(as_json)
    rows, drawn, passed_over = [], [], []
    for number, file in enumerate(files, 1):
        try:
            image = first if number == 1 and first is not None else read_image(number, file)
        except ImageError as error:
            if file in images:
                raise
            passed_over.append(str(error))
            terminal.print(printable(f"passed over: {error}"), style="yellow", highlight=False, markup=False)
            continue
        if raw is not None and caption is not None:
            save_raw(loaded, image, caption, raw)
        if vocabulary is not None:
            (found,) = detect_again(loaded, [image], vocabulary, threshold, count)
        else:
            (found,) = detect_caption(loaded, [image], caption or "", threshold, count)
        rows.append(found.as_json() | ({"picture": folder.draw(found)} if folder is not None else {}))
        if output is not None and folder is None:
            drawn.append(found)  # one picture of all of them
        if not as_json:
            terminal.print(found_table(found, threshold))
    if not rows:
        raise DataError(f"none of {len(files):,} images can be read, first: {passed_over[0]}")
    about = {"detector": card.name, "weights": card.weights, "weights_sha256": card.weights_sha256}
    document = about | {"threshold": threshold, "images": rows}
    if passed_over:
        document["passed_over"] = passed_over
    if folder is not None:
        folder.write(document)
    elif output is not None:
        save_png(output, draw_found(drawn))
    if as_json:
        print_json(document)
        return
    for path in (raw, output):
        if path is not None:
            terminal.print(f"wrote {path}", highlight=False, markup=False)


def _numbers(text: str) -> list[int]:
    from ovd_bench.metrics.errors import DataError

    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise DataError(f"--ids {text!r:.60}: image ids are whole numbers, separated by commas") from None


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command(
        epilog="Examples:\n\n"
        "  bench show owl-nano,grounding-dino-nano --out runs/bench -o show.png\n\n"
        "  bench show owl-nano --worst --class 'striped red star' -n 6\n\n"
        "  bench show a.json b.json -a lvis_v1_val.json --images coco -o show.png\n\n"
        "The threshold of a run is the score at which its F1 over the data set is highest (IoU 0.5); the title "
        "of its pictures states it. Per image, ✓ is right, ✗ wrong, ? missed, ~ not judged by the protocol's rules."
    )(show)
    app.command(
        epilog="Examples:\n\n"
        "  bench detect photo.jpg -d owlv2-base-patch16 --prompt 'a cat. a remote control.' -o out.png\n\n"
        "  bench detect photo.jpg -d grounding-dino-tiny --caption 'a cat on a couch.' --raw out.npz\n\n"
        "  bench detect a.jpg b.jpg -d mine.py:Mine --classes names.txt --threshold 0.1 --json\n\n"
        "  bench detect photos -d owlv2-base-patch16 --class 'St. Bernard' --class '3.5 mm jack' -o found"
    )(detect)
