"""The controlled study with real data, made small: same files, same configurations, same proof."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ovd_bench.benchmarks.studies.cells import training_facts
from ovd_bench.benchmarks.studies.controlled import PROOF, seed_manifests
from ovd_bench.benchmarks.studies.definition import find_study, read_study
from ovd_bench.benchmarks.studies.resolve import ResolvedStudy, flat, resolve
from ovd_bench.benchmarks.training.config import TrainingConfig
from ovd_bench.benchmarks.training.loop import train
from ovd_bench.benchmarks.training.prepared import Machine
from ovd_bench.benchmarks.training.registry import find_trainer
from ovd_bench.grounding_dino_jt.config import SwinConfig
from ovd_bench.grounding_dino_jt.weights.shapes import swin_shapes

#: Sizes alone; what the arms are made of stays.
SWIN = SwinConfig(embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=3)
SMALL_SWIN = {
    "embed_dim": SWIN.embed_dim,
    "depths": list(SWIN.depths),
    "num_heads": list(SWIN.num_heads),
    "window_size": SWIN.window_size,
}
SMALL_DINO = {
    "hidden_dim": 32,
    "num_heads": 2,
    "dim_feedforward": 32,
    "enc_layers": 1,
    "dec_layers": 1,
    "num_queries": 20,
    "image_size": 64,
    "image_longest": 96,
}
SMALL_CONTESTANT = {
    "width": 32,
    "blocks": 1,
    "fusion_width": 16,
    "language_width": 32,
    "regions": 10,
    "image_size": 64,
    "image_longest": 96,
}
SMALL_DATA = {
    "sizes": [48, 64],
    "longest": 96,
    "crop": {"sizes": [48], "smallest": 32, "largest": 48},
    "num_negatives": 2,
    "workers": 0,
}
CLASSES = ("Person", "Barrel/bucket", "Desk Lamp", "Wild Bird")


@pytest.fixture(scope="module")
def resolved() -> ResolvedStudy:
    """Of no data and no weights."""
    path = find_study("controlled-swin-t")
    return resolve(read_study(path), path)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def _image(folder: Path, name: str, seed: int) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (64, 80, 3), np.uint8)).save(folder / name)
    return {"filename": name, "height": 64, "width": 80}


def _write(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def _write_data(root: Path) -> None:
    """Detection and grounding records where the configurations look for them; of some boxes, several phrases."""
    detection = []
    for number in range(4):
        instances = [
            {"bbox": [5 + 20 * place, 8, 35 + 20 * place, 50], "label": (number + place) % 3, "category": "as mapped"}
            for place in range(number)
        ]
        head = _image(root / "objects365v1/train", f"{number}.jpg", number)
        detection.append({**head, "detection": {"instances": instances}})
    _write(root / "objects365v1/o365_train.jsonl", detection)
    names = json.dumps({str(label): name for label, name in enumerate(CLASSES)})
    (root / "objects365v1/o365_train.label_map.json").write_text(names)
    caption = "A man on the left in a red coat, the painter, holds two brushes"

    def region(boxes: list[list[int]], *parts: str) -> dict[str, Any]:
        spans = [[caption.index(part), caption.index(part) + len(part)] for part in parts]
        return {"bbox": boxes, "phrase": " ".join(parts), "tokens_positive": spans}

    man, brushes = [[4, 4, 40, 60]], [[50, 20, 60, 40], [62, 22, 76, 44]]
    regions = [
        region(man, "A man", "in a red coat"),
        region(man, "the painter"),  # the same box
        region([[10, 20, 36, 50]], "a red coat"),  # words that another phrase has, too
        region(brushes, "two brushes"),
    ]
    for file, images in (("flickr_train", "flickr30k/flickr30k_images"), ("gqa_train", "gqa/images")):
        heads = [_image(root / images, f"{number}.jpg", 100 + number) for number in range(3)]
        records = [{**head, "grounding": {"caption": caption, "regions": regions}} for head in heads]
        _write(root / f"mdetr_annotations/{file}.jsonl", records)


def _write_backbone(path: Path) -> None:
    """Random numbers as a ``.pth`` of microsoft/Swin-Transformer, with what only ImageNet's classifier needs."""
    rng = np.random.default_rng(0)
    state = {
        name.removeprefix("backbone.0."): torch.from_numpy(0.1 * rng.standard_normal(shape).astype(np.float32))
        for name, shape in swin_shapes(SWIN).items()
        if not name.startswith("backbone.0.norm")
    }
    state |= {"norm.weight": torch.ones(64), "norm.bias": torch.zeros(64), "head.weight": torch.ones(3, 64)}
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(9, 9, dtype=torch.int64)
    torch.save({"model": state}, path)


def _small(config: TrainingConfig, backbone: Path) -> TrainingConfig:
    """Two steps of little images; all else is as in the file."""
    document = config.model_dump(mode="json")
    sizes = SMALL_DINO if config.trainer == "grounding-dino" else SMALL_CONTESTANT
    model = document["model"]
    model["backbone"] = str(backbone)
    model["options"] |= sizes | {"backbone": {**model["options"].get("backbone", {}), **SMALL_SWIN}}
    document["data"] |= SMALL_DATA
    document |= {"steps": 2, "batch": 4, "parts": 2, "log_every": 1}
    return type(config).model_validate(document)


def test_four_designs_train_on_the_same_bytes(resolved: ResolvedStudy, tmp_path: Path) -> None:
    _write_data(tmp_path / "data")
    _write_backbone(tmp_path / "swin.pth")
    facts = {}
    for one in resolved.arms:
        config = _small(one.config, tmp_path / "swin.pth")
        made = find_trainer(config.trainer).prepare(config, Machine(tmp_path / "data", device="cpu"), None)
        result = train(config, made, tmp_path / one.arm.name)
        facts[one.arm.name, 0] = training_facts(Path(result["weights"]))
        records = [json.loads(line) for line in (tmp_path / one.arm.name / "log.jsonl").read_text().splitlines()]
        losses = [record["loss"] for record in records if "loss" in record]
        assert len(losses) == 2
        assert np.isfinite(losses).all()
    assert len(facts) == 4
    (manifest,) = seed_manifests(facts, "grounding-dino")
    assert manifest.lines == []
    assert manifest.reference.keys() == PROOF.keys()
    # Of an epoch, which has 4 records with classes and 6 with sentences.
    assert (manifest.reference["steps"], manifest.reference["samples"]) == (2, 8)


def test_the_arms_share_more_than_has_to_be_proved(resolved: ResolvedStudy) -> None:
    """Rate, decay, clipping, warm-up and average of Grounding DINO and of the others have other names, same values."""
    ours, *others = (flat(one.config.resolved()) for one in resolved.arms)
    assert {one["trainer"] for one in others} == {"contestant"}
    for other in others:
        for key in ("lr", "weight_decay", "betas", "clip"):
            assert other[f"optimizer.{key}"] == ours[f"optimizer.{key}"], key
        assert other["optimizer.ema"] == ours["optimizer.average"]
        assert other["optimizer.final"] == ours["optimizer.schedule.final"]
        assert other["optimizer.warm_up"] * other["steps"] == ours["optimizer.schedule.warm_up"]
        assert other["parts"] == ours["parts"]
        for key in ("image_size", "image_longest"):
            assert other[f"model.options.{key}"] == ours[f"model.options.{key}"], key
        assert other["model.options.width"] == ours["model.options.hidden_dim"]
    assert ours["optimizer.rates.bert."] == 0


def test_the_backbone_is_swin_t_as_its_authors_made_it(resolved: ResolvedStudy) -> None:
    for one in resolved.arms:
        settled = flat(one.config.resolved())
        options = {key: value for key, value in settled.items() if key.startswith("model.options.backbone.")}
        assert options == flat({"model": {"options": {"backbone": _swin_t()}}})
        assert settled["model.backbone"].endswith("swin_tiny_patch4_window7_224.pth")


def _swin_t() -> dict[str, Any]:
    sizes = {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7, "patch_size": 4}
    return {**sizes, "out_stages": [1, 2, 3], "drop_path_rate": 0.2}
