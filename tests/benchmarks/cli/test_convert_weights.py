"""``convert-weights`` as a user meets it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from ovd_bench.detectors.types import DetectorError
from ovd_bench.detectors.weight_conversion import convert_weights, target_layout
from ovd_bench.grounding_dino_jt.weights import parameter_count, read_weights, write_canonical
from ovd_bench.tests.grounding_dino_jt.weight_files import (
    SMALL,
    mmdet_state,
    official_state,
    random_tensors,
    same,
    write_torch_file,
)
from ovd_bench.tests.test_bench import bench, bench_json


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A published checkpoint of a small model."""
    return write_torch_file(tmp_path / "official.pth", {"model": official_state(random_tensors(SMALL), SMALL)})


def test_the_whole_way_round(official: Path, tmp_path: Path) -> None:
    own, folder, back = tmp_path / "own.safetensors", tmp_path / "hf", tmp_path / "back.pth"
    first = bench_json("convert-weights", official, own)
    assert (first["source_kind"], first["layout"], first["parameters"]) == (
        "official",
        "jittor",
        parameter_count(SMALL),
    )
    assert first["source_sha256"] == hashlib.sha256(official.read_bytes()).hexdigest()
    assert first["sha256"] == hashlib.sha256(own.read_bytes()).hexdigest()
    assert "module.label_enc.weight" in first["dropped"]
    assert first["config"]["backbone"]["embed_dim"] == 8
    assert convert_weights(own, folder).layout == "hf"
    assert convert_weights(folder, back).layout == "official"
    assert same(read_weights(back)[0], random_tensors(SMALL))
    mmdet = write_torch_file(tmp_path / "mm.pth", {"state_dict": mmdet_state(random_tensors(SMALL), SMALL)})
    assert convert_weights(mmdet, tmp_path / "mm.safetensors").source_kind == "mmdet"
    assert same(read_weights(tmp_path / "mm.safetensors")[0], random_tensors(SMALL))


def test_it_says_what_it_did_and_does_not_overwrite(official: Path, tmp_path: Path) -> None:
    target = tmp_path / "own.safetensors"
    done = bench("convert-weights", official, target)
    assert done.returncode == 0
    assert f"{parameter_count(SMALL):,} parameters in" in done.stdout
    assert "left out: module.label_enc.weight" in done.stdout
    assert hashlib.sha256(target.read_bytes()).hexdigest() in done.stdout
    before = target.stat().st_mtime_ns
    again = bench("convert-weights", official, target)
    assert (again.returncode, again.stderr) == (1, f"error: {target}: already exists: --overwrite replaces it\n")
    assert target.stat().st_mtime_ns == before
    assert bench("convert-weights", official, target, "--overwrite").returncode == 0


def test_it_says_what_it_passed_over(tmp_path: Path) -> None:
    state = official_state(random_tensors(SMALL), SMALL)
    source = write_torch_file(tmp_path / "last.pth", {"model": {}, "ema_model": state, "epoch": 3})
    done = bench("convert-weights", source, tmp_path / "own.safetensors", "--key", "ema_model")
    assert "passed over: model, epoch\n" in done.stdout


def test_a_refused_file_is_one_line_and_writes_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "executed"),)

    source = write_torch_file(tmp_path / "evil.pth", {"model": Evil()})
    result = bench("convert-weights", source, tmp_path / "own.safetensors")
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {source}: refused, it holds the object ")
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["evil.pth"]


def test_a_folder_keeps_its_other_files(tmp_path: Path) -> None:
    own, folder = tmp_path / "own.safetensors", tmp_path / "hf"
    write_canonical(random_tensors(SMALL), SMALL, own, source="", source_sha256="")
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    convert_weights(own, folder)
    with pytest.raises(DetectorError, match="already exists: --overwrite"):
        convert_weights(own, folder)
    (folder / "vocab.txt").write_text("[PAD]")
    convert_weights(own, folder, overwrite=True)
    convert_weights(folder, tmp_path / "copy")
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json", "notes.txt", "vocab.txt"}
    assert {path.name for path in (tmp_path / "copy").iterdir()} == names - {"notes.txt"}
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "grounding-dino"


def test_in_place(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    write_canonical(random_tensors(SMALL), SMALL, path, source="", source_sha256="")
    convert_weights(path, path, overwrite=True)
    assert same(read_weights(path)[0], random_tensors(SMALL))


def test_the_form_of_the_target_decides(tmp_path: Path) -> None:
    assert target_layout(tmp_path / "x.safetensors", None) == "jittor"
    assert target_layout(tmp_path / "x.pth", None) == "official"
    assert target_layout(tmp_path / "x", None) == target_layout(tmp_path, None) == "hf"
    assert target_layout(tmp_path / "v1.5", "hf") == "hf"
    with pytest.raises(DetectorError, match="or give --to"):
        target_layout(tmp_path / "v1.5", None)
    with pytest.raises(DetectorError, match="--to onnx: expected one of jittor, official, hf"):
        target_layout(tmp_path / "x", "onnx")
    with pytest.raises(DetectorError, match="create it first"):
        convert_weights(tmp_path / "a", tmp_path / "missing" / "b.pth")
    with pytest.raises(DetectorError, match="is a folder, which --to official is not"):
        convert_weights(tmp_path / "a", tmp_path, layout="official")
