"""A data set and a Grounding DINO small enough to be trained within a test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import yaml
from PIL import Image

from ovd_bench.grounding_dino_jt.config import TextConfig
from ovd_bench.grounding_dino_jt.tokenizer import packaged_folder
from ovd_bench.grounding_dino_jt.weights.shapes import text_shapes

SIDE = 64
NAMES = ("red", "blue square", "green")

#: All options that a small model differs in from a full one.
OPTIONS: dict[str, Any] = {
    "backbone": {
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": 4,
        "out_stages": [0, 1],
        "drop_path_rate": 0.2,
    },
    "hidden_dim": 32,
    "num_heads": 2,
    "dim_feedforward": 32,
    "enc_layers": 1,
    "dec_layers": 2,
    "num_queries": 20,
    "num_feature_levels": 2,
    "class_scale": "sqrt",
    "class_bias": True,
    "image_size": SIDE,
    "image_longest": SIDE,
}


def write_toy(folder: Path, images: int = 8) -> Path:
    """Write coloured squares on noise as ODVG (``od.jsonl``, ``map.json``) and LVIS (``lvis.json``); gives the folder.

    The LVIS file has a class without any training image. One image has no box at all.
    """
    rng = np.random.default_rng(images)
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    rows: list[dict[str, Any]] = []
    for index in range(images):
        pixels = rng.integers(0, 60, (SIDE, SIDE, 3), np.uint8)
        instances = []
        for _ in range(index % 4):
            label = int(rng.integers(0, 2))
            x, y, side = (int(v) for v in (*rng.integers(0, 16, 2), rng.integers(30, 48)))
            pixels[y : y + side, x : x + side] = np.eye(3, dtype=np.uint8)[2 * label] * 255
            instances.append({"bbox": [x, y, x + side, y + side], "label": label, "category": NAMES[label]})
            box = {"bbox": [x, y, side, side], "area": side * side, "category_id": label + 1}
            rows.append({"id": len(rows) + 1, "image_id": index + 1, **box})
        Image.fromarray(pixels).save(folder / f"{index}.png")
        line = {"filename": f"{index}.png", "height": SIDE, "width": SIDE, "detection": {"instances": instances}}
        lines.append(json.dumps(line) + "\n")
    (folder / "od.jsonl").write_text("".join(lines))
    (folder / "map.json").write_text(json.dumps({str(label): name for label, name in enumerate(NAMES)}))
    lists = {"neg_category_ids": [1, 2, 3], "not_exhaustive_category_ids": []}
    document = {
        "images": [
            {"id": index + 1, "file_name": f"{index}.png", "width": SIDE, "height": SIDE, **lists}
            for index in range(images)
        ],
        "annotations": rows,
        "categories": [
            {"id": label + 1, "name": name, "frequency": "f", "image_count": 4 * (label < 2), "synset": f"s{label}"}
            | {"synonyms": [], "def": ""}
            for label, name in enumerate(NAMES)
        ],
    }
    (folder / "lvis.json").write_text(json.dumps(document))
    return folder


def toy_document(toy: Path, **changes: Any) -> dict[str, Any]:
    """A training of a few steps on ``toy``; a changed mapping is merged into the existing one."""
    document: dict[str, Any] = {
        "trainer": "grounding-dino",
        "seed": 1,
        "steps": 6,
        "batch": 4,
        "log_every": 1,
        "checkpoint_every": 2,
        "model": {"size": "nano", "text_encoder": str(toy / "bert"), "options": OPTIONS},
        "data": {
            "sources": [
                {
                    "annotations": str(toy / "od.jsonl"),
                    "images": str(toy),
                    "label_map": str(toy / "map.json"),
                }
            ],
            "sizes": [],
            "crop": None,
            "num_negatives": 2,
        },
        "optimizer": {"lr": 0.003, "average": 0.8, "rates": {"bert.": 0.0}, "schedule": {"warm_up": 2}},
        "denoising": {"queries": 10},
    }
    for key, value in changes.items():
        document[key] = {**document[key], **value} if isinstance(value, dict) and key in document else value
    return document


def write_config(path: Path, document: dict[str, Any]) -> Path:
    """A configuration as YAML."""
    path.write_text(yaml.safe_dump(document))
    return path


def write_bert(folder: Path, seed: int = 0) -> Path:
    """A random BERT of one narrow layer in the layout of transformers, with the packaged vocabulary."""
    folder.mkdir(parents=True)
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
    }
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_act": "gelu", **sizes}))
    text = TextConfig(hidden_size=8, num_layers=1, num_heads=2, intermediate_size=16)
    shapes: dict[str, tuple[int, ...]] = {}
    text_shapes(shapes, text)
    rng = np.random.default_rng(seed)
    tensors = {
        name.removeprefix("bert."): rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    shutil.copy(packaged_folder() / "tokenizer.json", folder)
    return folder
