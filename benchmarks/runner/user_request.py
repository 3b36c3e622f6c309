"""A run request from user input: paths are made absolute, files of ids and plans are read."""

from __future__ import annotations

from pathlib import Path

from ovd_bench.benchmarks.data.catalog.suites import KNOWN
from ovd_bench.benchmarks.data.files.documents import checked, read_document
from ovd_bench.benchmarks.data.match import ImageMatch
from ovd_bench.benchmarks.data.output_paths import check_folder
from ovd_bench.benchmarks.data.prompt_files import read_plan
from ovd_bench.benchmarks.runner.request import Overwrite, RunRequest
from ovd_bench.benchmarks.store.protocols import Reading, VocabularyMode
from ovd_bench.detectors.interface import DType
from ovd_bench.detectors.registry import BUILT_IN
from ovd_bench.metrics.errors import DataError

_MAX_IDS_BYTES = 64 * 2**20


def user_request(
    detector: str,
    benchmark: str,
    *,
    protocol: str | None,
    prompts: str | None,
    vocabulary: VocabularyMode,
    reading: Reading | None,
    weights: str | None,
    key: str | None,
    data_root: Path,
    images: Path | None,
    match: ImageMatch,
    name: str | None,
    detector_name: str | None,
    image_size: int | None,
    top_k: int | None,
    device: str,
    dtype: DType,
    batch: int,
    chunk_batch: int | None,
    nms_iou: float | None,
    seed: int,
    detect_timeout: float | None,
    shards: int | None,
    limit: int | None,
    image_ids: Path | None,
    out: Path,
    overwrite: Overwrite,
) -> RunRequest:
    """One run of one detector on one benchmark.

    Args:
        detector: name, or ``path.py:Name``.
        benchmark: name, or path of an annotation file or folder.
        protocol: kind of AP; None = the benchmark's usual one.
        prompts: name of a prompt plan, or path of its YAML file; None = the usual one for the benchmark's names.
        vocabulary: classes given for an image: ``full``, ``present`` or ``verified``.
        reading: of the captions of a file of queries: ``annotated`` or ``own``; None = ``annotated``.
        weights: local path or hub id; None = the detector's.
        key: entry of a training checkpoint that holds the weights; None = the usual one.
        data_root: folder of the data sets.
        images: folder of the images; None = the benchmark's.
        match: how images are found in their folder: ``path`` or ``basename``.
        name: of a benchmark that is given as a path; None = after its file or folder.
        detector_name: of the detector in the results; None = that of its card.
        image_size: side of the network's input, pixels; None = the model's.
        top_k: (box, class) pairs per image; None = the protocol's.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: of the network.
        batch: images per call.
        chunk_batch: chunks of classes at once; None = the detector's choice.
        nms_iou: IoU above which the box of a class with the lower score is removed; None = the detector's choice.
        seed: of everything random.
        detect_timeout: seconds that the detector may be silent, while it loads or between images; None = for ever.
        shards: number of parts that the images are split into; None = by size.
        limit: only this many images, those with the lowest ids.
        image_ids: file with the ids of the only images, separated by white space.
        out: folder of the results.
        overwrite: ``missing``, ``always`` or ``never``.

    Raises:
        DataError: an invalid value, an unreadable file, both ``limit`` and ``image_ids``, a key without weights, or an
            ``out`` that cannot be written to.
    """
    if key is not None and weights is None:
        raise DataError(f"--key {key} needs --weights: it is an entry of that file")
    if limit is not None and image_ids is not None:
        raise DataError("--limit and --image-ids: give one of them")
    if detector_name in BUILT_IN and detector_name != detector:
        raise DataError(f"--detector-name {detector_name}: another detector has that name")
    check_folder(out)
    return checked(
        RunRequest,
        detector=detector_spec(detector),
        benchmark=_absolute(benchmark) if benchmark not in KNOWN and Path(benchmark).exists() else benchmark,
        weights=weights_source(weights),
        weights_key=key,
        plan=None if prompts is None else read_plan(prompts),
        data_root=data_root.resolve(),
        images=None if images is None else images.resolve(),
        match=match,
        name=name,
        detector_name=detector_name,
        ap=protocol,
        vocabulary=vocabulary,
        reading=reading,
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
        image_ids=None if image_ids is None else _ids(image_ids),
        out=out.resolve(),
        overwrite=overwrite,
    )


def detector_spec(name: str) -> str:
    """The detector for a worker process: the path in ``path.py:Name`` is made absolute."""
    return _absolute(name) if ".py:" in name else name


def weights_source(source: str | None) -> str | None:
    """The weights for a worker process: an existing path is made absolute, anything else is a hub id."""
    return _absolute(source) if source is not None and Path(source).exists() else source


def _absolute(path: str) -> str:
    return str(Path(path).resolve())


def _ids(path: Path) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in read_document(path, _MAX_IDS_BYTES, "list of image ids").decode().split())
    except ValueError as error:
        raise DataError(f"{path}: expected image ids separated by white space: {error}") from None
