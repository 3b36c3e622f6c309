"""Tiny files that ask for huge networks are refused in one line, at once and in little memory."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ovd_bench.baselines.clip_region.weights import load_clip
from ovd_bench.baselines.untrusted_weights import check_sizes, mapped_tensors, planned
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.registry import load_detector
from ovd_bench.detectors.types import DetectorError
from ovd_bench.tests.baselines.clip_region.tiny import write_open_clip, write_transformers
from ovd_bench.tests.detectors.tiny_models import (
    write_closed_set,
    write_grounding_dino,
    write_omdet_turbo,
    write_owl,
)

WRITERS: dict[str, Callable[[Path], Path]] = {
    "owlvit-base-patch32": lambda folder: write_owl(folder, 1),
    "owlv2-base-patch16-ensemble": lambda folder: write_owl(folder, 2),
    "grounding-dino-tiny-hf": write_grounding_dino,
    "omdet-turbo-tiny": write_omdet_turbo,
    "detr-resnet-50": write_closed_set,
    "deformable-detr": lambda folder: write_closed_set(folder, "deformable-detr"),
}
Document = dict[str, Any]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("folders")
    return {name: write(root / name) for name, write in WRITERS.items()}


def _changed(folder: Path, to: Path, name: str, **changes: Any) -> Path:
    """A copy with fields of a JSON file changed; ``a__b`` is field b of object a."""
    shutil.copytree(folder, to)
    document: Document = json.loads((to / name).read_text())
    for key, value in changes.items():
        *parts, last = key.split("__")
        inner = document
        for part in parts:
            inner = inner[part]
        inner[last] = value
    (to / name).write_text(json.dumps(document))
    return to


def _refused(detector: str, folder: Path, message: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DetectorError, match=message) as caught:
        load_detector(detector, DetectorSettings(weights=str(folder)))
    assert "\n" not in str(caught.value)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300 << 10, f"{grown >> 10} MB for a refusal"


LAYERS, FILL = "is 10000000, at most 256 is possible", "asks for far more layers than its"


@pytest.mark.parametrize(
    ("detector", "changes", "message"),
    [
        (
            "owlvit-base-patch32",
            {"vision_config__num_hidden_layers": 10**7},
            f"vision_config.num_hidden_layers {LAYERS}",
        ),
        ("owlvit-base-patch32", {"vision_config__num_hidden_layers": 250}, FILL),
        (
            "owlvit-base-patch32",
            {"vision_config__hidden_size": 16384, "vision_config__intermediate_size": 65536},
            r"describes a network of [\d,]+ numbers, the weights have [\d,]+",
        ),
        ("owlvit-base-patch32", {"text_config__vocab_size": 10**9}, "text_config.vocab_size is 1000000000, at most"),
        ("owlvit-base-patch32", {"text_config__max_position_embeddings": 1 << 20}, "describes a network of"),
        (
            "owlv2-base-patch16-ensemble",
            {"text_config__num_hidden_layers": 10**7},
            f"text_config.num_hidden_layers {LAYERS}",
        ),
        ("grounding-dino-tiny-hf", {"encoder_layers": 10**7}, f"encoder_layers {LAYERS}"),
        (
            "grounding-dino-tiny-hf",
            {"text_config__num_hidden_layers": 10**7},
            f"text_config.num_hidden_layers {LAYERS}",
        ),
        ("grounding-dino-tiny-hf", {"backbone_config__window_size": 5000}, "asks for tables of [0-9]+ MB"),
        ("omdet-turbo-tiny", {"decoder_num_layers": 10**7}, f"decoder_num_layers {LAYERS}"),
        ("detr-resnet-50", {"backbone_config__depths": [10**7, 1, 1, 1]}, f"backbone_config.depths {LAYERS}"),
        ("detr-resnet-50", {"backbone_config__depths": [256] * 4}, FILL),
        ("detr-resnet-50", {"id2label": None, "num_labels": 10**9}, "num_labels is 1000000000, at most"),
        ("deformable-detr", {"num_queries": 1 << 20, "d_model": 1 << 18}, "describes a network of"),
        ("deformable-detr", {"quantization_config": {"quant_method": "x"}}, "quantised weights are not supported"),
        ("deformable-detr", {"attn_implementation": "owner/kernel"}, "code of the hub is not run"),
    ],
)
def test_configurations_that_ask_for_too_much(
    folders: dict[str, Path], tmp_path: Path, detector: str, changes: Document, message: str
) -> None:
    _refused(detector, _changed(folders[detector], tmp_path / "copy", "config.json", **changes), message)


def test_pictures_that_are_too_large(folders: dict[str, Path], tmp_path: Path) -> None:
    size = {"shortest_edge": 10**6, "longest_edge": 10**6}
    folder = _changed(folders["detr-resnet-50"], tmp_path / "copy", "preprocessor_config.json", size=size)
    _refused("detr-resnet-50", folder, "preprocessor_config.json: size is .*, at most 8192 is possible")


def test_json_that_is_too_deep_or_too_long(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["detr-resnet-50"], tmp_path / "copy"))
    (folder / "config.json").write_text("[" * 100_000)
    _refused("detr-resnet-50", folder, "cannot be read as JSON")
    (folder / "config.json").write_text(" " * (17 << 20))
    _refused("detr-resnet-50", folder, "too large for a configuration")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone_config": {"model_type": "timm_backbone", "backbone": "hf-hub:owner/model"}}, "a model of the hub"),
        ({"backbone_config": None, "backbone": "owner/model", "use_timm_backbone": False}, "a model of the hub"),
        ({"backbone_config": None, "backbone": "local-dir:/tmp", "use_timm_backbone": True}, "a model of the hub"),
    ],
)
def test_backbones_that_only_the_hub_describes(
    folders: dict[str, Path], tmp_path: Path, changes: Document, message: str
) -> None:
    changes |= {"use_pretrained_backbone": True}
    _refused(
        "detr-resnet-50", _changed(folders["detr-resnet-50"], tmp_path / "copy", "config.json", **changes), message
    )


def test_a_local_folder_asks_no_network(tmp_path: Path) -> None:
    """The library asks the hub whether a backbone's plain name is a repository there. This runs without a hub."""
    folder = write_closed_set(tmp_path / "timm", "detr", backbone="resnet10t")
    changes = {"backbone_config": None, "backbone": "resnet10t", "use_pretrained_backbone": True}
    named = _changed(
        folder,
        tmp_path / "named",
        "config.json",
        **changes,
        use_timm_backbone=False,
        backbone_kwargs={"out_indices": [1, 2, 3, 4]},
    )
    code = (
        "import socket, sys\n"
        "def reach(*_, **__): print('reached'); raise OSError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = reach\n"
        "from ovd_bench.detectors.interface import DetectorSettings\n"
        "from ovd_bench.detectors.registry import load_detector\n"
        "load_detector('detr-resnet-50', DetectorSettings(weights=sys.argv[1]))\n"
        "print('loaded')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(named)], capture_output=True, text=True)
    assert done.stdout == "loaded\n", done.stderr[-2000:]


CLIP = {
    "open_clip_config.json": write_open_clip,
    "config.json": write_transformers,
}


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("open_clip_config.json", {"model_cfg__vision_cfg__layers": 10**7}, f"model_cfg.vision_cfg.layers {LAYERS}"),
        ("open_clip_config.json", {"model_cfg__vision_cfg__layers": 256}, "far more layers|missing: "),
        ("open_clip_config.json", {"model_cfg__text_cfg__width": 1 << 16}, "of the wrong shape: "),
        ("open_clip_config.json", {"model_cfg__vision_cfg__width": 1 << 16}, "of the wrong shape: "),
        ("open_clip_config.json", {"model_cfg__text_cfg__context_length": 1 << 19}, "asks for tables of"),
        ("open_clip_config.json", {"model_cfg__vision_cfg__image_size": 10**9}, "image_size is 1000000000, at most"),
        ("open_clip_config.json", {"model_cfg__vision_cfg__mlp_ratio": float("inf")}, "mlp_ratio is inf, a finite"),
        ("config.json", {"vision_config__num_hidden_layers": 10**7}, f"vision_config.num_hidden_layers {LAYERS}"),
        ("config.json", {"vision_config__hidden_size": 1 << 16}, "of the wrong shape: "),
        ("config.json", {"text_config__max_position_embeddings": 1 << 19}, "asks for tables of"),
    ],
)
def test_clips_that_ask_for_too_much(tmp_path: Path, file: str, changes: Document, message: str) -> None:
    folder = _changed(CLIP[file](tmp_path / "clip"), tmp_path / "copy", file, **changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=message) as caught:
        load_clip(folder)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10


def test_a_position_table_does_not_bring_a_larger_mask(tmp_path: Path) -> None:
    """The tensors agree with the configuration: 2 MB of positions, whose mask would have a terabyte."""
    folder = _changed(
        write_open_clip(tmp_path / "clip"),
        tmp_path / "copy",
        "open_clip_config.json",
        model_cfg__text_cfg__context_length=1 << 19,
        model_cfg__text_cfg__width=16,
    )
    tensors = load_file(folder / "open_clip_model.safetensors")
    tensors["positional_embedding"] = torch.zeros(1 << 19, 16, dtype=torch.float16)
    save_file(tensors, folder / "open_clip_model.safetensors")
    with pytest.raises(ValueError, match="asks for tables of 1048576 MB"):
        load_clip(folder)


def test_views_larger_than_the_file_are_refused(tmp_path: Path) -> None:
    wide = torch.zeros(1).expand(1 << 16, 1 << 16)
    torch.save({"a": wide}, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").stat().st_size < 4096
    with pytest.raises(ValueError, match="its tensors claim to be larger than the file"):
        mapped_tensors(tmp_path / "a.bin")
    folder = write_transformers(tmp_path / "clip")
    (folder / "model.safetensors").unlink()
    shutil.copy(tmp_path / "a.bin", folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="its tensors claim to be larger than the file"):
        load_clip(folder)


def test_one_tensor_may_have_two_names(tmp_path: Path) -> None:
    shared = torch.arange(4096.0)
    torch.save({"a": shared, "b": shared}, tmp_path / "a.bin")
    assert torch.equal(mapped_tensors(tmp_path / "a.bin")["b"], shared)
    torch.save({"a": shared}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    assert torch.equal(mapped_tensors(tmp_path / "old.bin")["a"], shared)


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "a.bin")
    with (
        zipfile.ZipFile(tmp_path / "a.bin") as plain,
        zipfile.ZipFile(tmp_path / "bomb.bin", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    with pytest.raises(ValueError, match="refused, a compressed archive"):
        mapped_tensors(tmp_path / "bomb.bin")


def test_a_construction_stops_at_far_too_many_parameters() -> None:
    made = 0

    def build() -> nn.Module:
        nonlocal made
        layers = nn.ModuleList()
        while made < 10**7:
            layers.append(nn.Linear(1 << 15, 1 << 15))
            made += 1
        return layers

    with pytest.raises(ValueError, match="far more layers than its 10 tensors can fill"):
        planned(build, 10)
    assert made < 1200
    nn.Linear(2, 2)  # constructions after it are not counted
    assert planned(lambda: nn.Linear(1 << 15, 1 << 15), 2).weight.is_meta


def test_sizes_that_networks_have_pass() -> None:
    check_sizes({"a": {"layers": 48, "depths": [2, 2, 18, 2], "vocab_size": 250_002, "eps": 1e-12, "tied": True}})
    with pytest.raises(ValueError, match=r"^a\.depths is 300, at most 256 is possible$"):
        check_sizes({"a": {"depths": [2, 300]}})
