"""The region-text judge: embeds the crops of annotated objects and the class names with an open_clip model.

It is only for diagnosis (:mod:`metrics.region_text`), never for rankings. The model is loaded from a local directory,
without network and without pickle.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from ovd_bench.benchmarks.data.images import ImageError, image_file, read_image
from ovd_bench.benchmarks.scoring.text_judge import DEFAULT_TEMPLATE, model_sha256, prompts
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.region_text import RegionEmbeddings
from ovd_bench.metrics.types import GroundTruth

if TYPE_CHECKING:
    from torch import Tensor

_CONFIG = "open_clip_config.json"
#: The name that open_clip prefers; it could prefer a pickle to another safetensors file.
_WEIGHTS = "open_clip_model.safetensors"


@dataclass(frozen=True)
class _Judge:
    """A loaded model: unit embeddings of preprocessed images and of texts, float32 (B, D) each."""

    preprocess: Callable[[Image.Image], Tensor]
    encode_images: Callable[[list[Tensor]], npt.NDArray[np.float32]]
    encode_texts: Callable[[list[str]], npt.NDArray[np.float32]]


def embed_regions(
    ground_truth: GroundTruth,
    file_names: Sequence[str],
    data_root: Path,
    model: Path,
    template: str = DEFAULT_TEMPLATE,
    *,
    batch_size: int = 64,
    device: str = "cpu",
) -> RegionEmbeddings:
    """Embed the crop of every annotated box and the prompt of every class.

    A crop is the box, enlarged to whole pixels and clipped at the image's border, without context. It is resized to the
    model's input without keeping its aspect ratio, so that no part of a long object is cut off. EXIF orientation is
    applied first.

    Images that :func:`benchmarks.data.images.read_image` refuses are listed in ``unreadable``; their objects, and boxes
    without a pixel, have no crop.

    Args:
        ground_truth: I images, N annotations, K classes.
        file_names: path of every image relative to ``data_root``, in the order of ``ground_truth.image_ids``.
        data_root: folder of the images; no path may leave it.
        model: directory with ``open_clip_config.json`` and ``open_clip_model.safetensors``; a tokenizer other than
            open_clip's own is also there.
        template: prompt with one ``{}``.
        batch_size: crops and prompts per forward pass.
        device: torch device.

    Raises:
        DataError: a path that leaves ``data_root``, a model that does not load, missing packages, or an error of
            :func:`benchmarks.scoring.text_judge.prompts`.
    """
    if len(file_names) != ground_truth.num_images:
        raise DataError(f"region judge: {len(file_names)} file names for {ground_truth.num_images} images")
    paths = [image_file(data_root, name) for name in file_names]
    texts = prompts(ground_truth.categories.names, template)
    judge = _load(model, device)
    classes = np.concatenate(
        [judge.encode_texts(texts[start : start + batch_size]) for start in range(0, len(texts), batch_size)]
    )

    crops = np.zeros((len(ground_truth.ann_ids), classes.shape[1]), np.float32)
    has_crop = np.zeros(len(crops), np.bool_)
    unreadable: list[tuple[int, str]] = []
    rows: list[int] = []
    pending: list[Tensor] = []

    def flush() -> None:
        if rows:
            crops[rows] = judge.encode_images(pending)
            has_crop[rows] = True
            rows.clear()
            pending.clear()

    by_image = np.argsort(ground_truth.image_index, kind="stable")
    ends = np.cumsum(np.bincount(ground_truth.image_index, minlength=ground_truth.num_images))
    for position, rows_of_image in enumerate(np.split(by_image, ends[:-1])):
        if len(rows_of_image) == 0:
            continue
        image_id, (width, height) = int(ground_truth.image_ids[position]), ground_truth.image_sizes[position].tolist()
        try:
            upright = read_image(image_id, paths[position], (width, height))
        except ImageError as error:
            unreadable.append((image_id, error.reason))
            continue
        image = Image.fromarray(upright.pixels)
        for row in rows_of_image:
            pixels = _pixels(ground_truth.boxes_xywh[row], image.size)
            if pixels is None:
                continue
            rows.append(int(row))
            pending.append(judge.preprocess(image.crop(pixels)))
            if len(rows) == batch_size:
                flush()
    flush()
    return RegionEmbeddings(
        crops, has_crop, classes, model.resolve().name, model_sha256(model), template, tuple(unreadable)
    )


def _pixels(box_xywh: npt.NDArray[np.float64], size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Whole pixels (left, top, right, bottom) of a box inside the image, None if there are none."""
    x, y, w, h = box_xywh.tolist()
    left, top = max(math.floor(x), 0), max(math.floor(y), 0)
    right, bottom = min(math.ceil(x + w), size[0]), min(math.ceil(y + h), size[1])
    return (left, top, right, bottom) if left < right and top < bottom else None


def _load(directory: Path, device: str) -> _Judge:
    _check_model(directory)
    try:
        import open_clip
        import torch
    except ImportError as error:
        raise DataError(
            "the region judge needs open_clip: install the extra 'judge' (pip install 'ovd-bench[judge]')"
        ) from error
    name = f"local-dir:{directory.resolve()}"
    config = open_clip.get_model_config(name)
    own_tokenizer = {"trust_remote_code": False} if config["text_cfg"].get("hf_tokenizer_name") else {}
    try:
        model, preprocess = open_clip.create_model_from_pretrained(
            name, device=device, image_resize_mode="squash", weights_only=True
        )
        tokenizer = open_clip.get_tokenizer(name, **own_tokenizer)
    except Exception as error:  # any error that a wrong configuration or wrong weights cause
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{directory}: open_clip cannot load this model ({reason})") from error
    model.eval()

    def encode_images(images: list[Tensor]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(model.encode_image(torch.stack(images).to(device), normalize=True).float().cpu())

    def encode_texts(texts: list[str]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(model.encode_text(tokenizer(texts).to(device), normalize=True).float().cpu())

    return _Judge(preprocess, encode_images, encode_texts)


def _check_model(directory: Path) -> None:
    """Refuse a directory that lacks a file, or whose configuration needs the network."""
    for name in (_CONFIG, _WEIGHTS):
        if not (directory / name).is_file():
            raise DataError(
                f"{directory}: {name} is missing; an open_clip model directory has {_CONFIG} and {_WEIGHTS}"
            )
    try:
        config = json.loads((directory / _CONFIG).read_bytes())["model_cfg"]
        towers = config["text_cfg"], config["vision_cfg"]
        remote = "hf_model_name" in towers[0] or ":" in str(towers[1].get("timm_model_name", ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{directory / _CONFIG}: not a model configuration with text_cfg and vision_cfg") from error
    if remote:
        raise DataError(
            f"{directory / _CONFIG}: a tower is fetched from a model hub; use a model that needs no network"
        )
