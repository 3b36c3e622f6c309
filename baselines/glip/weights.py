"""Weights files of GLIP: microsoft/GLIP's, mmdetection's, and the suite's own.

* official: ``torch.save`` of ``{"model": {"module.…": tensor}}``, the names of ``baselines.glip.model`` after the
  prefix, including buffers;
* mmdetection: other names (``tools/model_converters/glip_to_mmdet.py``), the channels of Swin's merging in another
  order, without the closed-set head and BERT's pooler;
* canonical: safetensors with the model's own names. The header's entry ``glip`` is JSON: ``format`` (1), ``config``
  (``GlipConfig``) and ``source`` (free form, for readers).

Every parameter is set by exactly one tensor; all other tensors of a file must be among ``LEFTOVERS``.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import zipfile
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from pydantic import TypeAdapter
from torch import Tensor

from ovd_bench.baselines.glip.config import VARIANTS, GlipConfig
from ovd_bench.baselines.glip.model import Glip
from ovd_bench.baselines.untrusted_weights import check_claims, planned

Layout = Literal["official", "mmdet", "canonical"]

FORMAT = 1
_KEY = "glip"
_PREFIX = "module."

#: Other tensors in files, by canonical names: buffers, which are computed from the configuration, and tensors used only
#: in training: the head of masked language modelling and the resizer of a contrastive loss.
LEFTOVERS = re.compile(
    r"backbone\.body\.layers\.\d+\.blocks\.\d+\.attn\.relative_position_index"
    r"|language_backbone\.body\.model\.embeddings\.(position_ids|token_type_ids)"
    r"|rpn\.anchor_generator\.cell_anchors\.\d+"
    r"|rpn\.head\.mlm_head\.(decoder\.|transform\.(dense|LayerNorm)\.)?(weight|bias)"
    r"|rpn\.resizer\.(fc|layer_norm)\.(weight|bias)"
)

#: From names of mmdetection to canonical ones.
_MMDET = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^backbone\.patch_embed\.projection\.", "backbone.body.patch_embed.proj."),
        (r"^backbone\.stages\.(\d+)\.(.*?)attn\.w_msa\.", r"backbone.body.layers.\1.\2attn."),
        (r"^backbone\.stages\.(\d+)\.(.*?)ffn\.layers\.0\.0\.", r"backbone.body.layers.\1.\2mlp.fc1."),
        (r"^backbone\.stages\.(\d+)\.(.*?)ffn\.layers\.1\.", r"backbone.body.layers.\1.\2mlp.fc2."),
        (r"^backbone\.stages\.", "backbone.body.layers."),
        (r"^backbone\.(patch_embed|norm)", r"backbone.body.\1"),
        (r"^neck\.lateral_convs\.0\.conv\.", "backbone.fpn.fpn_inner2."),
        (r"^neck\.lateral_convs\.1\.conv\.", "backbone.fpn.fpn_inner3."),
        (r"^neck\.lateral_convs\.2\.conv\.", "backbone.fpn.fpn_inner4."),
        (r"^neck\.fpn_convs\.0\.conv\.", "backbone.fpn.fpn_layer2."),
        (r"^neck\.fpn_convs\.1\.conv\.", "backbone.fpn.fpn_layer3."),
        (r"^neck\.fpn_convs\.2\.conv\.", "backbone.fpn.fpn_layer4."),
        (r"^neck\.fpn_convs\.3\.conv\.", "backbone.fpn.top_blocks.p6."),
        (r"^neck\.fpn_convs\.4\.conv\.", "backbone.fpn.top_blocks.p7."),
        (r"^language_model\.language_backbone\.", "language_backbone."),
        (r"^bbox_head\.head\.dyhead_tower\.(\d+)\.dyconvs\.", r"rpn.head.dyhead_tower.\1.DyConv."),
        (r"^bbox_head\.head\.dyhead_tower\.(\d+)\.attnconv\.", r"rpn.head.dyhead_tower.\1.AttnConv."),
        (r"^bbox_head\.head\.", "rpn.head."),
    )
)
_MERGING = re.compile(r"backbone\.body\.layers\.\d+\.downsample\.(reduction|norm)\.")

#: Size limit, since a header could state any size.
_LARGEST_SIZE, _MOST_LAYERS = 1 << 16, 256
_DAMAGE = (
    *(RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError),
    *(ArithmeticError, MemoryError, OSError, RecursionError, safetensors.SafetensorError),
)


@dataclass(frozen=True)
class About:
    """Result of reading.

    Attributes:
        layout: layout of the file.
        config: configuration of the model.
        dropped: names of skipped tensors in the file.
    """

    layout: Layout
    config: GlipConfig
    dropped: tuple[str, ...]


def read_weights(path: Path, config: GlipConfig | None = None, key: str | None = None) -> tuple[Glip, About]:
    """The model in a weights file of any layout, float32, ready to detect.

    Args:
        path: ``.safetensors``, or a file that ``torch.save`` wrote.
        config: configuration of the model; None = that of the file, or, if it has none, the variant of its size.
        key: entry of a checkpoint that holds the state dict, such as ``ema_model``; None = ``model`` or ``state_dict``.

    Raises:
        ValueError: no such file, a damaged one, one with other objects than tensors, not a GLIP, tensors missing,
            left over or of the wrong shape, or numbers that are not finite.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if key is not None and path.suffix == ".safetensors":
        raise ValueError(f"{path}: has no entries such as '{key}'; a .pth file has")
    tensors, own = _read_safetensors(path) if path.suffix == ".safetensors" else (_read_torch(path, key), None)
    layout, named, dropped = _canonical(path, tensors, own is not None)
    config = config or own or _variant(path, named)
    pooler = "language_backbone.body.model.pooler.dense.weight" in named
    closed = named.get("rpn.head.cls_logits.weight")
    config = dataclasses.replace(config, text_pooler=pooler, classes=0 if closed is None else len(closed))
    model = _filled(path, config, named)
    return model, About(layout, config, dropped)


def write_weights(model: Glip, path: Path, layout: Layout, source: str = "") -> None:
    """Write a model; an existing file is replaced once the new one is complete.

    Args:
        model: float32.
        path: path of the file.
        layout: ``official`` (without buffers) or ``canonical``.
        source: origin of the weights, for readers; canonical only.

    Raises:
        ValueError: the layout of mmdetection, which can only be read.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    unfinished = path.with_name(f"{path.name}.unfinished")
    if layout == "canonical":
        about = {"format": FORMAT, "config": dataclasses.asdict(model.config), "source": source}
        safetensors.torch.save_file(tensors, unfinished, {_KEY: json.dumps(about, sort_keys=True)})
    elif layout == "official":
        torch.save({"model": {_PREFIX + name: tensor for name, tensor in tensors.items()}}, unfinished)
    else:
        raise ValueError(f"{path}: the layout of mmdetection is only read")
    unfinished.replace(path)


def holds_glip(path: Path) -> bool:
    """Whether a weights file has the names of a GLIP; False for unreadable files."""
    try:
        if path.suffix != ".safetensors":
            return _layout(_read_torch(path)) is not None
        with safetensors.safe_open(path, "pt") as file:
            return _KEY in (file.metadata() or {}) or _layout(file.keys()) is not None
    except (ValueError, OSError, safetensors.SafetensorError):
        return False


def _filled(path: Path, config: GlipConfig, named: Mapping[str, Tensor]) -> Glip:
    try:
        # a header may state any size: nothing is allocated before the shapes agree
        plan = planned(lambda: Glip(config), len(named))
        expected = {name: tuple(tensor.shape) for name, tensor in plan.state_dict().items()}
    except _DAMAGE as error:
        raise ValueError(f"{path}: its config describes no GLIP ({_line(error)})") from error
    faults = {
        "missing": [name for name in expected if name not in named],
        "not of this model": [name for name in named if name not in expected],
        "of the wrong shape": [name for name in named if name in expected and named[name].shape != expected[name]],
    }
    told = []
    for fault, names in faults.items():
        if names:
            more = f" … (+{len(names) - 3})" if len(names) > 3 else ""
            told.append(f"{fault}: {', '.join(_printable(name) for name in names[:3])}{more}")
    if told:
        raise ValueError(f"{path}: the weights do not fit the model: {'; '.join(told)}")
    for name, tensor in named.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: '{name}' holds something else than finite numbers")
    model: Glip = Glip(config).requires_grad_(False).eval()
    # clones, since the tensors may be in a mapped file, which may change
    model.load_state_dict({name: tensor.to(torch.float32, copy=True) for name, tensor in named.items()}, assign=True)
    return model


def _canonical(
    path: Path, tensors: Mapping[str, Tensor], own: bool
) -> tuple[Layout, dict[str, Tensor], tuple[str, ...]]:
    """Layout, tensors by canonical names, and the names in the file of leftovers."""
    layout = "canonical" if own else _layout(tensors)
    if layout is None:
        raise ValueError(f"{path}: is not a GLIP of microsoft/GLIP, mmdetection or this suite")
    rename: dict[Layout, Callable[[str], str]] = {
        "canonical": lambda name: name,
        "official": lambda name: name.removeprefix(_PREFIX),
        "mmdet": _from_mmdet,
    }
    named: dict[str, Tensor] = {}
    dropped = []
    for name, tensor in tensors.items():
        new = rename[layout](name)
        if LEFTOVERS.fullmatch(new):
            dropped.append(name)
            continue
        if new in named:
            raise ValueError(f"{path}: holds '{_printable(new)}' twice")
        named[new] = _merged_in_order(tensor) if layout == "mmdet" and _MERGING.match(new) else tensor
    return layout, named, tuple(dropped)


def _layout(names: Container[str]) -> Layout | None:
    if f"{_PREFIX}rpn.head.bias_lang" in names or "rpn.head.bias_lang" in names:
        return "official"
    return "mmdet" if "bbox_head.head.bias_lang" in names else None


def _from_mmdet(name: str) -> str:
    for pattern, replacement in _MMDET:
        new, count = pattern.subn(replacement, name)
        if count:
            return new
    return name


def _merged_in_order(tensor: Tensor) -> Tensor:
    """Merging of mmdetection, (..., 4C) channel by channel and columns before rows, to neighbour by neighbour."""
    if tensor.shape[-1] % 4:
        return tensor  # reported as of the wrong shape
    quads = tensor.unflatten(-1, (-1, 4)).transpose(-1, -2)
    return quads[..., [0, 2, 1, 3], :].flatten(-2)


def _variant(path: Path, named: Mapping[str, Tensor]) -> GlipConfig:
    fused = any(".b_attn." in name for name in named)
    patches = named.get("backbone.body.patch_embed.proj.weight")
    for config in VARIANTS.values():
        if patches is not None and config.fused == fused and len(patches) == config.swin.embed_dim:
            return config
    raise ValueError(f"{path}: is a GLIP of no known size")


def _read_torch(path: Path, key: str | None = None) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError(f"{path}: refused, a compressed archive")
    except (zipfile.BadZipFile, OSError, OverflowError) as error:
        raise ValueError(f"{path}: is not a checkpoint of torch 1.6 or newer, or a damaged one") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path}: refused, it holds something else than tensors: save its state dict alone") from error
    except _DAMAGE as error:
        raise ValueError(f"{path}: is a damaged checkpoint ({_line(error)})") from error
    if key is not None and not (isinstance(content, dict) and key in content):
        there = ", ".join(_printable(name)[:50] for name in content if isinstance(name, str)) if content else ""
        raise ValueError(f"{path}: has no entry '{key}'; it has {there[:300]}")
    for name in ("model", "state_dict") if key is None else (key,):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
        for name, tensor in content.items()
    ):
        raise ValueError(f"{path}: holds no state dict")
    check_claims(path, content)
    return content


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], GlipConfig | None]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            config = None if text is None else _read_config(json.loads(text))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except _DAMAGE as error:
        raise ValueError(f"{path}: is a damaged weights file ({_line(error)})") from error
    return tensors, config


def _read_config(about: Any) -> GlipConfig:
    if about["format"] != FORMAT:
        raise ValueError(f"format {about['format']}, this version reads {FORMAT}")
    config: GlipConfig = TypeAdapter(GlipConfig).validate_python(about["config"])
    if json.loads(json.dumps(dataclasses.asdict(config))) != about["config"]:
        raise ValueError("config has other keys than this version's")
    swin, bert = config.swin, config.bert
    parts = (dataclasses.asdict(part).values() for part in (swin, bert, config))
    flat = [one for part in parts for value in part for one in (value if isinstance(value, tuple) else (value,))]
    if any(isinstance(one, int) and not 0 <= one < _LARGEST_SIZE for one in flat):
        raise ValueError("config has sizes that no GLIP has")
    if config.blocks + bert.layers + sum(swin.depths) > _MOST_LAYERS or len(swin.depths) > 8:
        raise ValueError("config has more layers than any GLIP")
    if max(swin.out_stages, default=-1) != len(swin.depths) - 1 or list(swin.out_stages) != sorted(swin.out_stages):
        raise ValueError("config has other output stages than the last ones")
    return config


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:120]


def _line(error: BaseException) -> str:
    return _printable(" ".join(str(error).split()))[:200] or type(error).__name__
