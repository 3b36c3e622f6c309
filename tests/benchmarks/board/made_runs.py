"""A small benchmark with images and finished runs of a given quality on it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.files.predictions import write_predictions
from ovd_bench.benchmarks.machine.environment import EnvironmentInfo
from ovd_bench.benchmarks.scoring.exports import write_per_class
from ovd_bench.benchmarks.scoring.score import ScoreRequest, score
from ovd_bench.benchmarks.store.folders import manifest_path
from ovd_bench.benchmarks.store.manifest import (
    BenchmarkPlace,
    Recipe,
    RunFiles,
    RunManifest,
    ShardRange,
    ShardRecord,
    ids_sha256,
    write_document,
)
from ovd_bench.benchmarks.store.protocols import RunProtocol
from ovd_bench.benchmarks.store.schema import (
    Contamination,
    DetectorInfo,
    PlanInfo,
    ProtocolInfo,
    Result,
    TrainingDataInfo,
    WarmSpeed,
    new_result,
    read_result,
    write_result,
)
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.metrics.types import Predictions

Json = dict[str, Any]
NAMES = ("red star", "blue ring", "green moon", "old <b>key</b>", "wide door", "tall lamp")
FREQUENCY = "ffccrr"
SIZE = (96, 72)
PROTOCOL = RunProtocol.of("lvis", PromptPlan())


def make_benchmark(folder: Path, *, images: int = 24, seed: int = 0) -> Benchmark:
    """Coloured rectangles on grey, as PNG files and LVIS annotations."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows: list[Json] = []
    boxes: list[Json] = []
    for image in range(1, images + 1):
        pixels = np.full((SIZE[1], SIZE[0], 3), 120, np.uint8)
        present = rng.permutation(len(NAMES))[:3]
        for label in present:
            w, h = (int(v) for v in rng.integers(14, 30, 2))
            x, y = int(rng.integers(0, SIZE[0] - w)), int(rng.integers(0, SIZE[1] - h))
            pixels[y : y + h, x : x + w] = np.array([40 * label, 250 - 40 * label, (90 * label) % 255], np.uint8)
            box = {"image_id": image, "category_id": int(label) + 1, "bbox": [x, y, w, h], "area": w * h}
            boxes.append(box | {"id": len(boxes) + 1})
        Image.fromarray(pixels).save(folder / "images" / f"{image}.png")
        absent = [k + 1 for k in range(len(NAMES)) if k not in present]
        lists = {"neg_category_ids": absent, "not_exhaustive_category_ids": []}
        rows.append({"id": image, "file_name": f"{image}.png", "width": SIZE[0], "height": SIZE[1], **lists})
    categories = [
        {"id": k + 1, "name": name, "frequency": FREQUENCY[k], "image_count": 4 ** (len(NAMES) - k - 1)}
        | {"synset": f"thing.n.0{k}", "synonyms": [name], "supercategory": "ab"[k % 2]}
        for k, name in enumerate(NAMES)
    ]
    path = folder / "gt.json"
    path.write_text(json.dumps({"images": rows, "annotations": boxes, "categories": categories}))
    return Benchmark("toy", "toy", "val", path, folder / "images", "lvis")


def make_predictions(benchmark: Benchmark, *, miss: float, wrong: float, seed: int) -> Predictions:
    """The ground truth, jittered; ``miss`` of it left out, ``wrong`` of it under another name, and some noise."""
    rng = np.random.default_rng(seed)
    document = json.loads(benchmark.annotations.read_text())
    rows: list[tuple[int, int, float, npt.NDArray[np.float64]]] = []
    for truth in document["annotations"]:
        box = np.array(truth["bbox"], np.float64) + rng.normal(0, 1.0, 4)
        if rng.random() >= miss:
            label = truth["category_id"] if rng.random() >= wrong else int(rng.integers(1, len(NAMES) + 1))
            rows.append((truth["image_id"], label, 0.4 + 0.6 * float(rng.random()), box))
        if rng.random() < 0.4:
            away = np.array([*rng.random(2) * 50, 12.0, 12.0])
            rows.append((truth["image_id"], int(rng.integers(1, len(NAMES) + 1)), 0.5 * float(rng.random()), away))
    rows.sort(key=lambda row: (row[0], -row[2]))
    image, label, scores, boxes = zip(*rows, strict=True)
    return Predictions.from_boxes(image, label, np.array(scores, np.float32), np.array(boxes, np.float32))


def make_run(
    root: Path,
    benchmark: Benchmark,
    name: str = "alpha",
    *,
    miss: float = 0.2,
    wrong: float = 0.2,
    seed: int = 1,
    partial: bool = False,
    predictions: Predictions | None = None,
    weights: str = "a",
    protocol: RunProtocol = PROTOCOL,
    keep_predictions: bool = True,
    bootstrap: int = 50,
    contamination: tuple[Contamination, ...] = (),
    notes: tuple[str, ...] = (),
    judge: Path | None = None,
    warm: WarmSpeed | None = None,
    **detector: Any,
) -> Path:
    """A folder as ``bench run`` leaves it; returns it."""
    weights_sha256 = (weights * 64)[:64]
    folder = root / benchmark.name / protocol.slug / f"{name}@{weights_sha256[:8]}"
    (folder / "predictions").mkdir(parents=True)
    found = make_predictions(benchmark, miss=miss, wrong=wrong, seed=seed) if predictions is None else predictions
    files = RunFiles(folder, 1)
    write_predictions(files.arrow(0), found)
    extras = ["ladder", "presence", "errors", "unseen", *(["srp"] if judge else [])]
    request = ScoreRequest(files.arrow(0), benchmark.annotations, protocol.ap, extras, resamples=bootstrap, threads=1)
    outcome = score(dataclasses.replace(request, judge=judge))
    write_per_class(folder / "per_class.csv", outcome.gt, outcome.evaluation)
    annotations_sha256 = file_sha256(benchmark.annotations)
    details = {
        "family": name,
        "framework": "numpy",
        "weights": f"{name}.safetensors",
        "parameters": 1_234_567 * (1 + seed),
        "backbone": "none",
        "text_encoder": "none",
        "training_data": [TrainingDataInfo(dataset="toy-train", images=["toy"], role="detection", note="")],
        "licence": "Apache-2.0",
        "url": "",
        "capabilities": ["open_vocabulary"],
        "notes": [],
    }
    info = DetectorInfo.model_validate({"name": name, "weights_sha256": weights_sha256, **details, **detector})
    plan = protocol.plan
    plan_info = PlanInfo(
        name=plan.name,
        sha256=plan.sha256,
        cleaning=plan.cleaning,
        templates=list(plan.templates),
        ensemble=plan.ensemble,
        chunk_classes=plan.chunk_classes,
        token_budget=plan.token_budget,
        order=plan.order,
        collisions={},
    )
    protocol_info = ProtocolInfo(
        name=protocol.ap,
        sha256=protocol.sha256,
        plan=plan_info,
        vocabulary=protocol.vocabulary,
        image_size=protocol.image_size,
        top_k=protocol.top_k,
        chunk_top_k=protocol.chunk_top_k,
    )
    env = EnvironmentInfo(
        git_commit="0" * 40,
        git_dirty=False,
        python="3.11.9",
        platform="Linux",
        packages={"numpy": "1.26.4"},
        lock_sha256=None,
        cpu="two cores of something",
        cores=2,
        ram_bytes=2**33,
        gpus=[],
        driver=None,
        cuda=None,
    )
    ids = outcome.gt.image_ids.tolist()
    recipe = Recipe(
        detector=name,
        weights_sha256=weights_sha256,
        source_sha256=None,
        annotations_sha256=annotations_sha256,
        images_sha256=ids_sha256(ids[: len(ids) // 2] if partial else ids),
        protocol_sha256=protocol.sha256,
        shards=1,
        device="cpu",
        dtype="float32",
        batch=1,
        seed=0,
    )
    manifest = RunManifest.model_validate(
        {
            "schema": 1,
            "recipe": recipe,
            "recipe_sha256": recipe.sha256,
            "detector": info,
            "protocol": protocol_info,
            "benchmark": BenchmarkPlace.of(benchmark, annotations_sha256),
            "image_ids": ids[: len(ids) // 2] if partial else None,
            "shards": [ShardRange(first_id=ids[0], last_id=ids[-1], images=len(ids), ids_sha256="2" * 64)],
        }
    )
    record = ShardRecord.model_validate(
        {
            "schema": 1,
            "recipe_sha256": recipe.sha256,
            "shard": 0,
            "arrow_sha256": file_sha256(files.arrow(0)),
            "detections": len(found),
            "images": len(ids),
            "images_failed": [],
            "started": "2025-01-01T00:00:00Z",
            "seconds": 2.0,
            "load_seconds": 0.5,
            "smallest_batch": 1,
            "peak_memory_bytes": 2**28,
            "peak_gpu_bytes": None,
            "env": env,
        }
    )
    if keep_predictions:
        write_document(manifest_path(folder), manifest)
        write_document(files.record(0), record)
    intervals = outcome.ci95
    result = new_result(
        partial=partial,
        detector=info,
        benchmark={
            "name": benchmark.name,
            "split": benchmark.split,
            "annotations_sha256": annotations_sha256,
            "images": outcome.gt.num_images,
            "classes": outcome.gt.num_classes,
            "boxes": len(outcome.gt.ann_ids),
        },
        protocol=protocol_info,
        metrics={key: {"value": value, "ci95": intervals.get(key)} for key, value in outcome.metrics.items()},
        run={
            "started": "2025-01-01T00:00:00Z",
            "seconds": 2.0,
            "seed": 0,
            "dtype": "float32",
            "device": "cpu",
            "batch": 1,
            "smallest_batch": 1,
            "shards": 1,
            "engine": "local",
            "images": len(ids),
            "detections": len(found),
            "images_failed": [],
            "bootstrap": bootstrap,
            "bootstrap_seed": 0,
            "interval": "student" if bootstrap else None,
            "command": f"bench run -d {name} -b {benchmark.name}",
        },
        env=env,
        speed={
            "images_per_second": 12.5 / (1 + seed),
            "load_seconds": 0.5,
            "peak_memory_bytes": 2**28 * (1 + seed),
            "peak_gpu_bytes": None,
            "warm": warm,
        },
        files={"per_class.csv": file_sha256(folder / "per_class.csv")},
        contamination=list(contamination),
        notes=list(notes),
    )
    write_result(folder / "result.json", result)
    return folder


def make_results(root: Path, toy: Benchmark) -> Path:
    """Two close runs, a far one, one without predictions, a second protocol, a partial run, a broken file."""
    seen = Contamination(dataset="coco-val2017", level="test-images", note="images only")
    make_run(root, toy, "alpha", miss=0.1, wrong=0.1, seed=1)
    make_run(root, toy, "beta", miss=0.1, wrong=0.1, seed=2, contamination=(seen,))
    make_run(root, toy, "gamma", miss=0.6, wrong=0.5, seed=3)
    make_run(root, toy, "delta", miss=0.2, wrong=0.1, seed=4, keep_predictions=False)
    make_run(root, toy, "alpha", miss=0.5, wrong=0.5, seed=5, weights="b")
    make_run(root, toy, "part", seed=6, partial=True)
    make_run(root, toy, "alpha", seed=1, protocol=RunProtocol.of("lvis-fixed", PromptPlan()))
    broken = root / "toy" / "old" / "broken@00000000"
    broken.mkdir(parents=True)
    (broken / "result.json").write_text('{"schema": 7}')
    return root


def load(folder: Path) -> tuple[Path, Result]:
    """Folder and result as ``group`` takes them."""
    return folder, read_result(folder / "result.json")
