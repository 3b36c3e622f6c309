"""Conversion between the weight files of Grounding DINO, and between those of GLIP, for the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ovd_bench.detectors.types import DetectorError

#: ``jittor`` is the suite's own safetensors, of GLIP too, which is PyTorch.
Layout = Literal["jittor", "official", "hf"]


@dataclass(frozen=True)
class Conversion:
    """Report of a conversion.

    Attributes:
        source: path that was read.
        source_kind: ``jittor``, ``official``, ``hf`` or ``mmdet``.
        source_sha256: of the file; of several, of the list of their sums.
        target: path that was written.
        layout: of the target.
        sha256: of the written weights file.
        parameters: number of scalars.
        tensors: number of tensors.
        dropped: names of tensors that are in the source and not in the target: leftovers of training.
        config: of the model.
        passed_over: entries of the source beside the state dict.
    """

    source: str
    source_kind: str
    source_sha256: str
    target: str
    layout: str
    sha256: str
    parameters: int
    tensors: int
    dropped: tuple[str, ...]
    config: dict[str, Any]
    passed_over: tuple[str, ...] = ()


def target_layout(target: Path, layout: str | None) -> Layout:
    """The layout to write: the requested one, or that of the path's suffix.

    Raises:
        DetectorError: an unknown layout, or a path with an unknown suffix.
    """
    if layout is None:
        by_suffix: dict[str, Layout] = {".safetensors": "jittor", ".pth": "official", "": "hf"}
        if target.is_dir():
            return "hf"
        if target.suffix not in by_suffix:
            raise DetectorError(f"{target}: name a .safetensors or .pth file or a folder, or give --to")
        return by_suffix[target.suffix]
    known: dict[str, Layout] = {name: name for name in get_args(Layout)}
    if layout not in known:
        raise DetectorError(f"--to {layout}: expected one of {', '.join(known)}")
    return known[layout]


def convert_weights(
    source: Path, target: Path, *, layout: str | None = None, key: str | None = None, overwrite: bool = False
) -> Conversion:
    """Read a model strictly from any known layout and write it in another one.

    Args:
        source: ``.safetensors`` of this suite, official or mmdetection ``.pth``, or a Hugging Face folder.
        target: path to write.
        layout: see ``target_layout``.
        key: entry of a ``.pth`` of Grounding DINO that holds the state dict; None = ``model`` or ``state_dict``.
        overwrite: replace an existing target.

    Raises:
        DetectorError: the source is refused, the target exists, or its layout cannot hold the model.
    """
    import dataclasses
    import math

    from ovd_bench.grounding_dino_jt.weights import (
        WeightsError,
        read_checkpoint,
        write_canonical,
        write_hf,
        write_official,
    )
    from ovd_bench.grounding_dino_jt.weights.folder import sha256_of

    form = target_layout(target, layout)
    if not target.parent.is_dir():
        raise DetectorError(f"{target}: the folder {target.parent} does not exist: create it first")
    if target.exists() and target.is_dir() != (form == "hf"):
        raise DetectorError(f"{target}: is {'a folder' if target.is_dir() else 'a file'}, which --to {form} is not")
    written = target / "model.safetensors" if form == "hf" else target
    if not overwrite and (written.exists() or (form == "hf" and (target / "config.json").exists())):
        raise DetectorError(f"{target}: already exists: --overwrite replaces it")
    if key is None and _holds_glip(source):
        return _convert_glip(source, target, form)
    try:
        model = read_checkpoint(source, key)
        if form == "jittor":
            write_canonical(
                model.tensors, model.config, target, source=f"{model.kind}: {source.name}", source_sha256=model.sha256
            )
        elif form == "official":
            write_official(model.tensors, model.config, target)
        else:
            write_hf(model.tensors, model.config, target, tokenizer_from=source if source.is_dir() else None)
        sha256 = sha256_of([written])
    except WeightsError as error:
        raise DetectorError(str(error)) from error
    return Conversion(
        source=str(source),
        source_kind=model.kind,
        source_sha256=model.sha256,
        target=str(target),
        layout=form,
        sha256=sha256,
        parameters=sum(math.prod(tensor.shape) for tensor in model.tensors.values()),
        tensors=len(model.tensors),
        dropped=model.dropped,
        config=dataclasses.asdict(model.config),
        passed_over=model.passed_over,
    )


def _holds_glip(source: Path) -> bool:
    try:
        from ovd_bench.baselines.glip.weights import holds_glip
    except ModuleNotFoundError:  # without torch GLIP cannot be read
        return False
    return source.is_file() and holds_glip(source)


def _convert_glip(source: Path, target: Path, form: Layout) -> Conversion:
    import dataclasses
    import hashlib

    from ovd_bench.baselines.glip.weights import read_weights, write_weights

    if form == "hf":
        raise DetectorError(f"{target}: transformers has no GLIP: name a .safetensors or .pth file")
    try:
        model, about = read_weights(source)
        write_weights(model, target, "canonical" if form == "jittor" else "official", f"{about.layout}: {source.name}")
    except (ValueError, OSError) as error:
        raise DetectorError(str(error)) from error
    sums = []
    for path in (source, target):
        with path.open("rb") as file:
            sums.append(hashlib.file_digest(file, "sha256").hexdigest())
    state = model.state_dict()
    return Conversion(
        source=str(source),
        source_kind="jittor" if about.layout == "canonical" else about.layout,
        source_sha256=sums[0],
        target=str(target),
        layout=form,
        sha256=sums[1],
        parameters=sum(tensor.numel() for tensor in state.values()),
        tensors=len(state),
        dropped=about.dropped,
        config=dataclasses.asdict(about.config),
    )
