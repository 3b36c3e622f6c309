"""From what a user writes to a run request: paths become absolute, files of ids and plans are read."""

from __future__ import annotations

from pathlib import Path

from ovd_bench.benchmarks.data.catalog.cards import CARDS
from ovd_bench.benchmarks.data.prompt_files import read_plan
from ovd_bench.benchmarks.runner.request import RunRequest
from ovd_bench.metrics.types import DataError


def user_request(
    detector: str,
    benchmark: str,
    *,
    prompts: str,
    weights: str | None,
    data_root: Path,
    images: Path | None,
    limit: int | None,
    image_ids: Path | None,
    out: Path,
    **parts: object,
) -> RunRequest:
    """One run of one detector on one benchmark.

    Args:
        detector: name, or ``path.py:Name``.
        benchmark: name, or path of an annotation file or folder.
        prompts: name of a prompt plan, or path of its YAML file.
        weights: path or hub id; None = the detector's.
        data_root: folder of the data sets.
        images: folder of the images; None = the benchmark's.
        limit: only the first so many images by id.
        image_ids: file of the ids of the only images, separated by white space.
        out: folder of the results.
        parts: other fields of ``RunRequest``.

    Raises:
        DataError: a part is not legal, a file cannot be read, or ``limit`` and ``image_ids`` are both given.
    """
    plan = read_plan(prompts)
    if limit is not None and image_ids is not None:
        raise DataError("--limit and --image-ids: give one of them")
    return RunRequest.of(
        detector=_absolute(detector) if ".py:" in detector else detector,
        benchmark=_absolute(benchmark) if benchmark not in CARDS and Path(benchmark).exists() else benchmark,
        weights=_absolute(weights) if weights is not None and Path(weights).exists() else weights,
        plan=plan,
        data_root=data_root.resolve(),
        images=None if images is None else images.resolve(),
        limit=limit,
        image_ids=None if image_ids is None else _ids(image_ids),
        out=out.resolve(),
        **parts,
    )


def _absolute(path: str) -> str:
    return str(Path(path).resolve())


def _ids(path: Path) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in path.read_text().split())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path}: image ids separated by white space are needed: {error}") from None
