"""Strict and safe loading of models in the file layout of the Hugging Face hub, from a local directory or by hub id.

Reads safetensors if there are any, else ``pytorch_model*.bin`` with ``weights_only``; no pickle, no code from the hub.
A folder on this machine is all that is read: the hub is never asked while it loads. What ``config.json`` describes is
measured before it is built.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from ovd_bench.baselines.untrusted_weights import check_sizes, mapped_tensors, planned
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.hub import model_folder, weight_files, weights_sha256
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.shipped import check_sum
from ovd_bench.detectors.types import DetectorError

#: Computed from the configuration, so a file may hold or lack it. Text and vision ``position_ids`` and Swin's
#: ``relative_position_index``, also computed, are left out by transformers itself. Batch norms that are frozen count no
#: batches, but the published DETR still holds some counters.
_BENIGN = re.compile(r"^box_bias$|\.num_batches_tracked$")

#: Numbers that a network may have beyond those in its files before they are refused without being built; the few that
#: are missing then get a message with their names.
_MOST_MISSING = 1 << 24
_LONGEST_JSON = 16 << 20
#: Pixels of a side of the network's input.
_LARGEST_SIDE = 8192

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Preprocessing(BaseModel):
    """The part of ``preprocessor_config.json`` that detectors read.

    Attributes:
        size: ``shortest_edge`` and ``longest_edge``, or ``height`` and ``width``; pixels.
        image_mean, image_std: of RGB, after scaling.
        do_rescale: whether pixels are multiplied by ``rescale_factor`` first.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    size: dict[str, int]
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    do_rescale: bool = True
    rescale_factor: float = Field(default=1 / 255, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _older_layout(cls, content: Any) -> Any:
        """In older files ``size`` is a number, with ``max_size`` beside it."""
        if isinstance(content, dict) and isinstance(content.get("size"), int) and "max_size" in content:
            return content | {"size": {"shortest_edge": content["size"], "longest_edge": content["max_size"]}}
        return content

    def edges(self, first: str, second: str) -> tuple[int, int]:
        """The two numbers of ``size`` with these names.

        Raises:
            DetectorError: there are others, or one is below 1.
        """
        values = (self.size.get(first, 0), self.size.get(second, 0))
        if min(values) < 1:
            raise DetectorError(f"preprocessor_config.json: size is {self.size}, expected {first} and {second}")
        if max(values) > _LARGEST_SIDE:
            raise DetectorError(f"preprocessor_config.json: size is {self.size}, at most {_LARGEST_SIDE} is possible")
        return values

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalise float pixels 0 … 255 of shape (3, H, W) for the network."""
        scaled = pixels * self.rescale_factor if self.do_rescale else pixels
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.image_mean, self.image_std))
        return (scaled - mean) / std


@dataclass(frozen=True)
class LoadedModel:
    """A network in evaluation mode on its device, with its card and files.

    Attributes:
        module: with float32 parameters; ``inference`` computes in the requested precision.
        card: with weights source, sha256 and parameter count.
        directory: of its files.
        device: of the network.
        dtype: of ``inference``.
    """

    module: Any
    card: DetectorCard
    directory: Path
    device: torch.device
    dtype: torch.dtype

    @contextlib.contextmanager
    def inference(self) -> Iterator[None]:
        """No gradients; matrix products in half precision if requested."""
        half = self.dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=half):
            yield

    def tokenizer(self, sample: str, expected: list[int] | None) -> PreTrainedTokenizerBase:
        """The model's tokenizer.

        Without files, transformers silently makes an empty one, so a sample is checked.

        Args:
            sample: a text.
            expected: the token ids of the sample in the vocabulary that the model was trained with; None = not known.

        Raises:
            DetectorError: its files are missing, broken, or of another vocabulary.
        """
        with _one_line(f"{self.directory}: the tokenizer does not load"), _quiet(), _offline():
            tokenizer = AutoTokenizer.from_pretrained(self.directory, local_files_only=True, trust_remote_code=False)
            found = tokenizer(sample).input_ids
        if expected is not None and found != expected:
            raise DetectorError(
                f"{self.directory}: the tokenizer's files are missing or of another model: "
                f"{sample!r} reads as {found}, not as {expected}"
            )
        return tokenizer

    def preprocessing(self) -> Preprocessing:
        """Preprocessing of images, read from ``preprocessor_config.json`` or ``processor_config.json``.

        Raises:
            DetectorError: there is none, or it is not valid.
        """
        file = self.directory / "preprocessor_config.json"
        if file.is_file():
            return _preprocessing(file, _read_json(file))
        file = self.directory / "processor_config.json"
        if not file.is_file():
            raise DetectorError(f"{self.directory}: no preprocessor_config.json: copy it from the weights' source")
        return _preprocessing(file, _read_json(file).get("image_processor"))


def load_model(
    card: DetectorCard, settings: DetectorSettings, model_class: type[Any], *, model_type: str
) -> LoadedModel:
    """Load weights; every parameter must be set by exactly one tensor of the files.

    Args:
        card: of the detector; ``card.weights`` is the default source.
        settings: source, device and precision.
        model_class: of transformers.
        model_type: required ``model_type`` in ``config.json``.

    Raises:
        DetectorError: no such files, another kind of model, tensors missing, left over or of the wrong shape, a device
            or precision that is not there.
    """
    device, dtype = _device(settings), _DTYPES[settings.dtype]
    source = settings.weights or card.weights
    folder = model_folder(card, source)
    directory = folder.path
    document = _read_json(directory / "config.json")
    found = document.get("model_type")
    if found != model_type:
        raise DetectorError(
            f"{directory}: holds a model of type '{found}', detector '{card.name}' needs '{model_type}'"
        )
    files = weight_files(directory)
    sha256 = weights_sha256(files)
    if settings.weights is None:
        check_sum(card, directory, sha256)
    module = _read_module(directory, files, model_class, document)
    filled = dataclasses.replace(
        card,
        weights=folder.source,
        weights_sha256=sha256,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
    )
    return LoadedModel(module.to(device).eval(), filled, directory, device, dtype)


def _device(settings: DetectorSettings) -> torch.device:
    try:
        device = torch.device(settings.device)
    except RuntimeError as error:
        raise DetectorError(f"device '{settings.device}': unknown device: choose cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise DetectorError(f"device '{settings.device}': not supported: choose cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DetectorError(f"device '{settings.device}': this machine has {torch.cuda.device_count()} CUDA devices")
    if device.type == "cpu" and settings.dtype == "float16":
        raise DetectorError("float16 is not supported on the CPU: use float32 or bfloat16, or a CUDA device")
    return device


def _read_module(directory: Path, files: list[Path], model_class: type[Any], document: dict[str, Any]) -> Any:
    try:
        stored = [tensor for file in files for tensor in mapped_tensors(file).values()]
    except ValueError as error:
        raise DetectorError(str(error)) from error
    with _one_line(f"{directory / 'config.json'}"), _quiet(), _offline():
        config = model_class.config_class.from_dict(_own_config(document))
        plan = planned(lambda: model_class(config), len(stored))
        needed, held = (sum(tensor.numel() for tensor in tensors) for tensors in (plan.parameters(), stored))
        if needed > held + _MOST_MISSING:
            raise ValueError(f"describes a network of {needed:,} numbers, the weights have {held:,}")
    with _one_line(f"{directory}: the weights do not load"), _quiet(), _offline():
        module, info = model_class.from_pretrained(
            directory,
            config=config,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below with their names
            local_files_only=True,
            use_safetensors=files[0].suffix == ".safetensors",
            dtype=torch.float32,
        )
    faults = {
        "missing": sorted(info["missing_keys"]),
        "not of this model": sorted(info["unexpected_keys"]),
        "of the wrong shape": sorted(key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]),
    }
    told = []
    for fault, keys in faults.items():
        if keys := [key for key in keys if not _BENIGN.search(key)]:
            more = f" … (+{len(keys) - 5})" if len(keys) > 5 else ""
            told.append(f"{fault}: {', '.join(keys[:5])}{more}")
    if told:
        raise DetectorError(f"{directory}: the weights do not fit the model: {'; '.join(told)}")
    return module


def _own_config(document: dict[str, Any]) -> dict[str, Any]:
    """A configuration that describes the network by itself.

    Raises:
        ValueError: a size that no network has, or a part that only the hub describes.
    """
    check_sizes(document)
    named = document if not document.get("backbone_config") else {**document, "backbone": None}  # not read then
    for part in (named, *(part for part in document.values() if isinstance(part, dict))):
        if part.get("quantization_config"):
            raise ValueError("quantization_config: quantised weights are not supported")
        if "/" in str(part.get("attn_implementation")):
            raise ValueError(f"attn_implementation is {part['attn_implementation']!r}: code of the hub is not run")
        if set(str(part.get("backbone"))) & set("/:"):
            raise ValueError(
                f"backbone is {part['backbone']!r}, a model of the hub: put its config.json here as backbone_config"
            )
    backbone, arguments = document.get("backbone"), document.get("backbone_kwargs") or {}
    if not backbone or document.get("backbone_config") or (document.get("use_timm_backbone", True) and not arguments):
        return document
    # The library would ask the hub whether this is a repository there; it is a name of timm.
    rest = {name: value for name, value in document.items() if name not in ("backbone", "backbone_kwargs")}
    return rest | {"backbone_config": {"model_type": "timm_backbone", "backbone": backbone, **arguments}}


def _read_json(file: Path) -> dict[str, Any]:
    if file.is_file() and file.stat().st_size > _LONGEST_JSON:
        raise DetectorError(f"{file}: is too large for a configuration")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DetectorError(f"{file.parent}: no {file.name}: expected a model in the hub's file layout") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DetectorError(f"{file}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise DetectorError(f"{file}: expected a JSON object")
    return content


def _preprocessing(file: Path, content: object) -> Preprocessing:
    try:
        return Preprocessing.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "image_processor"
        raise DetectorError(f"{file}: {place}: {first['msg']}") from error


@contextlib.contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Convert any error of the library about a broken file to one line; its parsers document no exception types."""
    try:
        yield
    except DetectorError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DetectorError(f"{what}: {reason}") from error


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """No request reaches the hub, whatever a file of the folder names; the library then raises an error."""
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no load reports; problems are raised as errors."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
