"""Runs: make one, read one, read all of a folder."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from ovd_bench.benchmarks.api.errors import RunError, check_scoring, file_errors
from ovd_bench.benchmarks.api.paths import StrPath, data_folder, optional_path
from ovd_bench.benchmarks.api.records import Record, Records, data_frame
from ovd_bench.metrics.errors import DataError

if TYPE_CHECKING:
    from ovd_bench.benchmarks.data.match import ImageMatch
    from ovd_bench.benchmarks.store.schema import Result

#: What the cells of ``per_class.csv`` are; the others are text.
_WHOLE = ("category_id", "train_images", "boxes", "images", "verified_images", "detections")
_FRACTIONS = ("AP", "AP50", "AR")
#: Parameters of ``run`` whose option has another name.
_OPTIONS = {"metrics": "metric"}


@dataclass(frozen=True, repr=False)
class Run:
    """One detector on one benchmark under one protocol.

    Attributes:
        folder: where it lies.
        result: everything that ``result.json`` says.
    """

    folder: Path
    result: Result

    @property
    def detector(self) -> str:
        """Name of the detector."""
        return self.result.detector.name

    @property
    def benchmark(self) -> str:
        """Name of the benchmark."""
        return self.result.benchmark.name

    @property
    def protocol(self) -> str:
        """Kind of AP."""
        return self.result.protocol.name

    @property
    def metrics(self) -> dict[str, float | None]:
        """All statistics by name, from 0 to 1 unless they are counts; None where undefined."""
        return {name: metric.value for name, metric in self.result.metrics.items()}

    @property
    def ci95(self) -> dict[str, tuple[float, float]]:
        """95 % interval (low, high) of each statistic that has one; docs/intervals.md says how it is made."""
        return {name: metric.ci95 for name, metric in self.result.metrics.items() if metric.ci95 is not None}

    @property
    def notes(self) -> list[str]:
        """Remarks and warnings, one line each."""
        return self.result.notes

    @file_errors()
    def per_class(self) -> Records:
        """One row per class, in order of category ids; undefined numbers are None.

        Columns: ``category_id``, ``name``, ``frequency``, ``train_images``, ``boxes`` and ``images`` (ground truth),
        ``verified_images`` (images in which the class counts), ``detections`` (that took part), ``AP``, ``AP50``,
        ``AR`` (recall averaged over IoU).

        Raises:
            DataError: ``per_class.csv`` is missing, or is not that of the result.
        """
        from ovd_bench.benchmarks.board.per_class import per_class_table

        table = per_class_table(self.folder, self.result)
        try:
            return Records([{column: _cell(column, text) for column, text in row.items()} for row in table])
        except ValueError as error:
            raise DataError(f"{self.folder}: per_class.csv is damaged: {error}") from None

    def to_record(self) -> Record:
        """One flat row: what was run, then every statistic; ``NAME_low`` and ``NAME_high`` are its interval."""
        result = self.result
        record: Record = {
            "detector": self.detector,
            "weights_sha256": result.detector.weights_sha256,
            "benchmark": self.benchmark,
            "protocol": self.protocol,
            "protocol_sha256": result.protocol.sha256,
            "partial": result.partial,
            "images": result.benchmark.images,
            "folder": str(self.folder),
        }
        for name, metric in result.metrics.items():
            record[name] = metric.value
            if metric.ci95 is not None:
                record[f"{name}_low"], record[f"{name}_high"] = metric.ci95
        return record

    def to_dict(self) -> dict[str, Any]:
        """The content of ``result.json``."""
        return self.result.model_dump(mode="json", by_alias=True)

    def __repr__(self) -> str:
        ap = self.metrics.get("AP")
        value = "undefined" if ap is None else f"{100 * ap:.2f}"
        part = ", partial" if self.result.partial else ""
        return f"Run({self.detector} on {self.benchmark}, {self.protocol}: AP {value}{part}; {self.folder})"


class Results(Sequence[Run]):
    """Runs of a folder of results, partial ones included.

    Args:
        runs: the runs.
        problems: one line per result file that could not be read.
    """

    def __init__(self, runs: Sequence[Run], problems: Sequence[str] = ()) -> None:
        self._runs = list(runs)
        self.problems = list(problems)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Results: ...
    def __getitem__(self, index: int | slice) -> Run | Results:
        return Results(self._runs[index], self.problems) if isinstance(index, slice) else self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    def __repr__(self) -> str:
        return f"Results({len(self):,} runs, {len(self.problems):,} unreadable)"

    def to_records(self) -> list[Record]:
        """One flat row per run, see ``Run.to_record``. All rows have all columns; None: the run has no such number."""
        rows = [run.to_record() for run in self._runs]
        columns = dict.fromkeys(column for row in rows for column in row)
        return [{column: row.get(column) for column in columns} for row in rows]

    def to_pandas(self) -> Any:
        """The rows as a ``pandas.DataFrame``.

        Raises:
            DataError: pandas is not installed.
        """
        return data_frame(self.to_records())


@file_errors()
def run(
    detector: StrPath,
    benchmark: StrPath,
    *,
    protocol: str | None = None,
    prompts: StrPath | None = None,
    vocabulary: Literal["full", "present", "verified"] = "full",
    reading: Literal["annotated", "own"] | None = None,
    weights: StrPath | None = None,
    key: str | None = None,
    data_root: StrPath | None = None,
    images: StrPath | None = None,
    match: ImageMatch = "path",
    name: str | None = None,
    detector_name: str | None = None,
    image_size: int | None = None,
    top_k: int | None = None,
    device: str = "auto",
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
    batch: int = 1,
    chunk_batch: int | None = None,
    nms_iou: float | None = None,
    seed: int = 0,
    detect_timeout: float | None = None,
    shards: int | None = None,
    limit: int | None = None,
    image_ids: StrPath | None = None,
    overwrite: Literal["missing", "always", "never"] = "missing",
    metrics: Sequence[str] = (),
    bootstrap: int = 1000,
    judge: StrPath | None = None,
    tables: StrPath | None = None,
    threshold: float = 0.5,
    threads: int = 0,
    out: StrPath = "results",
    quiet: bool = False,
    verbose: bool = False,
) -> Run:
    """Predict and score, as ``bench run``: the parameters are its options, with the same defaults.

    The detector works in a process of its own. A run that was cut short is resumed; one that is there is scored anew.

    Args:
        detector: name, or ``path/to/file.py:Name``.
        benchmark: name of a data set, or path of an annotation file, of a file of queries (``.jsonl``) or of a
            folder in COCO format.
        protocol: ``lvis``, ``lvis-fixed`` or ``coco``; None = the benchmark's usual one.
        prompts: name of a prompt plan, or path of its YAML file; None = ``names``, or ``raw`` if that would change
            names that are not LVIS's.
        vocabulary: classes asked for in an image: all, those in it, or these and those known to be absent.
        reading: of the captions of a file of queries: the detector gets the annotated phrases, or finds them by itself;
            None = ``annotated``.
        weights: path or hub id; None = the detector's.
        key: entry of a training checkpoint that holds the weights, such as ``ema_model``; None = the usual one.
        data_root: folder of the data sets; None = the usual one (docs/data.md).
        images: folder of the images; None = the benchmark's.
        match: how images are found there: ``path`` as annotated, or ``basename``: the file of that base name.
        name: of a benchmark that is given as a path, in the results; None = after its folder or file.
        detector_name: of the detector in the results, such as that of its weights; None = that of its card.
        image_size: side that the network sees, pixels; None = the model's.
        top_k: (box, class) pairs per image; None = the protocol's.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: of the network.
        batch: images per call of the detector.
        chunk_batch: chunks of classes read at once; None = the detector's choice.
        nms_iou: IoU above which the lesser of two boxes of a class is dropped, 0 to 1; None = the detector's choice.
        seed: of everything random.
        detect_timeout: seconds that the detector may be silent, while it loads or between images; None = for ever.
        shards: parts that the images are cut into; None = 256 images each.
        limit: only the first so many images by id; the run is marked as partial.
        image_ids: file of the ids of the only images; the run is marked as partial.
        overwrite: ``missing``: make what is not there; ``always``: all anew; ``never``: leave a scored run as it is.
        metrics: statistics beyond AP, see ``list_metrics``; empty = the usual ones.
        bootstrap: resamples of the images for the intervals; 0 = no intervals.
        judge: similarity matrix for ``srp``.
        tables: JSON tables of class names; None = the benchmark's.
        threshold: score threshold of the presence decision.
        threads: of the scoring; 0 = all processors. Results do not depend on it.
        out: folder of the results.
        quiet: no progress on stderr.
        verbose: show what the detector's libraries print.

    Raises:
        DataError: the benchmark cannot be read, or an option is not legal.
        DetectorError: no such detector.
        RunError: the run did not come to its end; the same call resumes it.
    """
    given = dict(locals())
    from rich.console import Console

    from ovd_bench.benchmarks.runner.score_run import ScoreOptions
    from ovd_bench.benchmarks.runner.sweep import Sweep
    from ovd_bench.benchmarks.runner.user_request import user_request

    check_scoring(bootstrap, seed, threads)
    request = user_request(
        os.fspath(detector),
        os.fspath(benchmark),
        protocol=protocol,
        prompts=None if prompts is None else os.fspath(prompts),
        vocabulary=vocabulary,
        reading=reading,
        weights=None if weights is None else os.fspath(weights),
        key=key,
        data_root=data_folder(data_root),
        images=optional_path(images),
        match=match,
        name=name,
        detector_name=detector_name,
        image_size=image_size,
        top_k=top_k,
        device=device,
        dtype=dtype,
        batch=batch,
        chunk_batch=chunk_batch,
        nms_iou=nms_iou,
        seed=seed,
        detect_timeout=detect_timeout,
        shards=shards,
        limit=limit,
        image_ids=optional_path(image_ids),
        out=Path(out),
        overwrite=overwrite,
    )
    options = ScoreOptions(
        list(metrics),
        bootstrap,
        judge=optional_path(judge),
        tables=optional_path(tables),
        threshold=threshold,
        threads=threads,
    )
    options.check()
    sweep = Sweep(Console(stderr=True), _command(run, given), options, quiet=quiet, verbose=verbose)
    report = sweep.one(request)
    if report.problem or report.folder is None or report.result is None:
        raise RunError(f"{report.label}: {report.problem}")
    return Run(report.folder, report.result)


@file_errors()
def load_run(path: StrPath) -> Run:
    """A run that is there.

    Args:
        path: its folder, or its ``result.json``.

    Raises:
        DataError: no run, or a damaged one.
    """
    from ovd_bench.benchmarks.store.folders import RESULT
    from ovd_bench.benchmarks.store.schema import read_result

    folder = Path(path)
    if folder.name == RESULT:
        folder = folder.parent
    return Run(folder, read_result(folder / RESULT))


@file_errors()
def load_results(folder: StrPath = "results") -> Results:
    """All runs under a folder of results, sorted by path.

    Raises:
        DataError: no such folder.
    """
    from ovd_bench.benchmarks.store.folders import find_results

    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder: make a run, or name the folder that was given as 'out'")
    found, problems = find_results(root)
    return Results([Run(path.parent, result) for path, result in found], problems)


def _command(function: Callable[..., Run], given: Mapping[str, object]) -> str:
    """The command line that asks for the same as a call; the result keeps it."""
    words = ["bench", "run", "-d", str(given["detector"]), "-b", str(given["benchmark"])]
    for name, parameter in inspect.signature(function).parameters.items():
        value = given[name]
        if parameter.default is inspect.Parameter.empty or value == parameter.default:
            continue
        option = f"--{_OPTIONS.get(name, name).replace('_', '-')}"
        if isinstance(value, bool):
            words += [option] if value else []
        elif isinstance(value, Sequence) and not isinstance(value, str):
            words += [option, ",".join(map(str, value))] if value else []
        else:
            words += [option, str(value)]
    return shlex.join(words)


def _cell(column: str, text: str) -> str | int | float | None:
    if column in _WHOLE:
        return int(text) if text else None
    if column in _FRACTIONS:
        return float(text) if text else None
    return text
