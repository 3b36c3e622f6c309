"""The region judge with a tiny random open_clip model and tiny images."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ovd_bench.benchmarks.data import images
from ovd_bench.benchmarks.scoring.region_judge import embed_regions
from ovd_bench.benchmarks.scoring.score import ScoreRequest, score
from ovd_bench.benchmarks.scoring.text_judge import model_sha256
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.region_text import RegionEmbeddings, region_text_margin
from ovd_bench.metrics.types import GroundTruth
from ovd_bench.tests.metrics.semantic_sets import ground_truth_of, predictions_of

open_clip = pytest.importorskip("open_clip", reason="the extra 'judge' is not installed")

CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.4, 0.4, 0.4], "std": [0.3, 0.3, 0.3]},
}
NAMES = ("couch", "traffic_light", "zebra")
FILES = ("a.png", "sub/b.jpg", "gray.png")
SIZES = ((64, 48), (40, 80), (30, 30))
#: image, class, x, y, w, h: whole pixels, fractions, over the border, a 1-pixel strip, outside, grey image
ROWS = (
    (0, 0, 4, 5, 20, 10),
    (0, 1, 0.5, 0.25, 10.25, 10.5),
    (1, 2, -10, 60, 30, 40),
    (1, 0, 0, 0, 1, 80),
    (1, 1, 500, 500, 5, 5),
    (2, 2, 3, 3, 20, 20),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from safetensors.torch import save_file

    directory = tmp_path_factory.mktemp("tiny-clip")
    (directory / "open_clip_config.json").write_text(json.dumps(CONFIG))
    torch.manual_seed(0)
    network = open_clip.CLIP(**CONFIG["model_cfg"])
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()},
        directory / "open_clip_model.safetensors",
    )
    return directory


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, (w, h) in zip(FILES, SIZES, strict=True):
        shape = (h, w) if name == "gray.png" else (h, w, 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(root / name)
    return root


@pytest.fixture
def ground_truth() -> GroundTruth:
    return dataclasses.replace(ground_truth_of(ROWS, 3, NAMES), image_sizes=np.array(SIZES, np.int32))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_args: Any) -> None:
        raise AssertionError("the judge reached for the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)


def reference(model_directory: Path, root: Path) -> tuple[dict[int, Any], Any]:
    """Every crop and every prompt on its own."""
    import torch

    name = f"local-dir:{model_directory}"
    network, preprocess = open_clip.create_model_from_pretrained(name, image_resize_mode="squash")
    network.eval()
    tokenizer = open_clip.get_tokenizer(name)
    pixels = {0: (4, 5, 24, 15), 1: (0, 0, 11, 11), 2: (0, 60, 20, 80), 3: (0, 0, 1, 80), 5: (3, 3, 23, 23)}
    with torch.inference_mode():
        crops = {
            row: network.encode_image(
                preprocess(Image.open(root / FILES[ROWS[row][0]]).convert("RGB").crop(box))[None], normalize=True
            )[0].numpy()
            for row, box in pixels.items()
        }
        classes = [
            network.encode_text(tokenizer([f"a photo of a {name.replace('_', ' ')}"]), normalize=True)[0].numpy()
            for name in NAMES
        ]
    return crops, np.array(classes)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_equals_one_crop_at_a_time(model: Path, data_root: Path, ground_truth: GroundTruth, batch_size: int) -> None:
    found = embed_regions(ground_truth, FILES, data_root, model, batch_size=batch_size)
    crops, classes = reference(model, data_root)
    np.testing.assert_allclose(found.classes, classes, atol=1e-5)
    assert np.flatnonzero(found.has_crop).tolist() == sorted(crops)
    for row, embedding in crops.items():
        np.testing.assert_allclose(found.crops[row], embedding, atol=1e-5)
    assert not found.crops[~found.has_crop].any()
    assert found.unreadable == ()
    assert (found.judge, found.template) == (model.name, "a photo of a {}")
    # the crops differ, so a mix-up of rows would show
    assert np.abs(found.crops[0] - found.crops[5]).max() > 1e-2


def test_margin_of_embedded_regions(model: Path, data_root: Path, ground_truth: GroundTruth) -> None:
    embeddings = embed_regions(ground_truth, FILES, data_root, model)
    found = predictions_of([(image, label, 0.5, *box) for image, label, *box in ROWS])
    metrics = region_text_margin(ground_truth, found, embeddings).metrics
    assert metrics["region/margin"] == metrics["region/margin_true"]
    assert (metrics["region/objects"], metrics["region/without_crop"]) == (5.0, 1.0)


def test_score_of_files(model: Path, data_root: Path, tmp_path: Path) -> None:
    """The whole way from an annotation file that names its images to the margin."""
    lists: dict[str, list[int]] = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    images = [
        {"id": i, "file_name": name, "width": w, "height": h, **lists}
        for i, (name, (w, h)) in enumerate(zip(FILES, SIZES, strict=True))
    ]
    boxes = [
        {"id": n + 1, "image_id": i, "category_id": k, "bbox": box, "area": box[2] * box[3]}
        for n, (i, k, *box) in enumerate(ROWS)
    ]
    categories = [{"id": k, "name": name, "frequency": "f"} for k, name in enumerate(NAMES)]
    gt, dt = tmp_path / "gt.json", tmp_path / "dt.json"
    gt.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    rows = [{name: box[name] for name in ("image_id", "category_id", "bbox")} | {"score": 0.5} for box in boxes]
    dt.write_text(json.dumps(rows))
    outcome = score(ScoreRequest(dt, gt, "lvis", ["all"], region_judge=model, images=data_root))
    assert outcome.metrics["region/margin"] == outcome.metrics["region/margin_true"]
    assert outcome.metrics["region/objects"] == 5.0
    assert any(note.startswith(f"region: diagnosis, judge {model.name}") for note in outcome.notes)
    assert outcome.as_json()["context"]["region"]["weights_sha256"] == model_sha256(model)
    assert "srp/SRP" not in outcome.metrics  # no matrix was given


def test_rotated_photos_are_turned_upright(model: Path, data_root: Path, ground_truth: GroundTruth) -> None:
    straight = embed_regions(ground_truth, FILES, data_root, model)
    with Image.open(data_root / "a.png") as image:
        exif = Image.Exif()
        exif[0x0112] = 6  # the viewer has to turn it clockwise
        image.transpose(Image.Transpose.ROTATE_90).save(data_root / "a.png", exif=exif)
    np.testing.assert_array_equal(embed_regions(ground_truth, FILES, data_root, model).crops, straight.crops)


def unreadable(embeddings: RegionEmbeddings) -> dict[int, str]:
    return dict(embeddings.unreadable)


def test_bad_images_are_counted(
    model: Path, data_root: Path, ground_truth: GroundTruth, monkeypatch: pytest.MonkeyPatch
) -> None:
    truncated = (data_root / "sub/b.jpg").read_bytes()
    (data_root / "sub/b.jpg").write_bytes(truncated[: len(truncated) // 2])
    (data_root / "gray.png").write_text("not an image")
    (data_root / "a.png").unlink()
    found = embed_regions(ground_truth, FILES, data_root, model)
    assert sorted(unreadable(found)) == [10, 20, 30]
    assert all(reason and "\n" not in reason for reason in unreadable(found).values())
    assert not found.has_crop.any()


def test_image_of_another_size_is_counted(model: Path, data_root: Path, ground_truth: GroundTruth) -> None:
    Image.new("RGB", (65, 48)).save(data_root / "a.png")
    found = embed_regions(ground_truth, FILES, data_root, model)
    assert unreadable(found) == {10: "image is 65 x 48, the annotations say 64 x 48"}
    assert np.flatnonzero(found.has_crop).tolist() == [2, 3, 5]


def test_decompression_bombs_are_not_opened(
    model: Path, data_root: Path, ground_truth: GroundTruth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 64 * 48 - 1)
    found = embed_regions(ground_truth, FILES, data_root, model)
    assert sorted(unreadable(found)) == [10, 20]
    assert all("decompression bomb" in reason for reason in unreadable(found).values())


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "sub/../../secret.png", "link.png", "a\0b.png"])
def test_paths_stay_in_the_data_root(model: Path, data_root: Path, ground_truth: GroundTruth, name: str) -> None:
    Image.new("RGB", (64, 48)).save(data_root.parent / "secret.png")
    (data_root / "link.png").symlink_to(data_root.parent / "secret.png")
    with pytest.raises(DataError, match="image path"):
        embed_regions(ground_truth, (name, *FILES[1:]), data_root, model)


def test_number_of_file_names(model: Path, data_root: Path, ground_truth: GroundTruth) -> None:
    with pytest.raises(DataError, match="2 file names for 3 images"):
        embed_regions(ground_truth, FILES[:2], data_root, model)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "not a model configuration"),
        ([], "not a model configuration"),
        ({"model_cfg": CONFIG["model_cfg"] | {"text_cfg": {"hf_model_name": "bert"}}}, "model hub"),
        ({"model_cfg": CONFIG["model_cfg"] | {"vision_cfg": {"timm_model_name": "hf-hub:x/y"}}}, "model hub"),
        ({"model_cfg": CONFIG["model_cfg"] | {"embed_dim": 8}}, "open_clip cannot load"),
        ({"model_cfg": CONFIG["model_cfg"] | {"no_such_option": 8}}, "open_clip cannot load"),
    ],
)
def test_models_that_do_not_fit(
    model: Path, tmp_path: Path, data_root: Path, ground_truth: GroundTruth, config: Any, message: str
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=message) as caught:
        embed_regions(ground_truth, FILES, data_root, copy)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_no_model(model: Path, tmp_path: Path, data_root: Path, ground_truth: GroundTruth) -> None:
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    # beside safetensors weights a pickle is not read; alone it is refused
    (copy / "open_clip_pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
    assert embed_regions(ground_truth, FILES, data_root, copy).has_crop.any()
    (copy / "open_clip_model.safetensors").unlink()
    with pytest.raises(DataError, match=r"open_clip_model\.safetensors is missing"):
        embed_regions(ground_truth, FILES, data_root, copy)
    (copy / "open_clip_model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(DataError, match="open_clip cannot load"):
        embed_regions(ground_truth, FILES, data_root, copy)
