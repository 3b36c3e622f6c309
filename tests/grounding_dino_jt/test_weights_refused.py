"""Files that must not be read: unsafe, damaged, or almost a model."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import resource
import shutil
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from ovd_bench.grounding_dino_jt.config import Config
from ovd_bench.grounding_dino_jt.weights import (
    WeightsError,
    parameter_count,
    read_checkpoint,
    write_canonical,
    write_hf,
    write_official,
)
from ovd_bench.tests.grounding_dino_jt.weight_files import (
    SMALL,
    mmdet_state,
    official_state,
    random_tensors,
    write_torch_file,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small model in each kind of file."""
    folder, tensors = tmp_path_factory.mktemp("files"), random_tensors(SMALL)
    write_canonical(tensors, SMALL, folder / "a.safetensors", source="", source_sha256="")
    write_torch_file(folder / "a.pth", {"model": official_state(tensors, SMALL)})
    write_torch_file(folder / "mm.pth", {"state_dict": mmdet_state(tensors, SMALL)})
    return {path.name: path for path in folder.iterdir()}


def refused(path: Path, reason: str | None = None) -> str:
    """The message: one line, with the file's name."""
    with pytest.raises(WeightsError, match=reason) as error:
        read_checkpoint(path)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    return message


class _Evil:
    """Runs a command when a naive reader unpickles it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize(
    "wrap", [lambda evil: {"model": evil}, lambda evil: {"model": {"a": torch.ones(1)}, "x": evil}]
)
def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    target = tmp_path / "executed"
    path = write_torch_file(tmp_path / "evil.pth", wrap(_Evil(target)))
    assert "mkdir" in refused(path, r"refused, it holds the object \S*mkdir")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(wrap(_Evil(target))))
    refused(tmp_path / "bare.pth", "a bare pickle")
    torch.save(wrap(_Evil(target)), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    refused(tmp_path / "old.pth", "refused|damaged")
    assert not target.exists()
    torch.load(path, weights_only=False)  # the file does what is claimed
    assert target.exists()


class History:
    """Stands for an object of a training; its module is not that of Python itself."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __setstate__(self, state: object) -> None:
        """Would show that an object of the file was made."""
        raise AssertionError("executed")


def test_the_state_of_a_training_is_passed_over_and_not_executed(tmp_path: Path) -> None:
    state = official_state(random_tensors(SMALL), SMALL)
    content = {"model": state, "history": [History(tmp_path)], "loss": np.float64(0.5), "made": datetime.now(tz=UTC)}
    read = read_checkpoint(write_torch_file(tmp_path / "a.pth", content))
    assert read.passed_over == ("history", "loss", "made")
    plain = read_checkpoint(write_torch_file(tmp_path / "b.pth", {"model": state}))
    assert plain.passed_over == ()
    assert all(np.array_equal(read.tensors[name], plain.tensors[name]) for name in plain.tensors)
    state["x"] = History(tmp_path)
    refused(write_torch_file(tmp_path / "c.pth", content), r"refused, it holds the object \S*History")


def test_other_entries_and_prefixes_of_a_state_dict(tmp_path: Path) -> None:
    state = official_state(random_tensors(SMALL), SMALL)
    bare = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    path = write_torch_file(tmp_path / "a.pth", {"model": {"a": torch.ones(1)}, "ema_model": bare, "epoch": 3})
    assert read_checkpoint(path, "ema_model").passed_over == ("model", "epoch")
    with pytest.raises(WeightsError, match="has no entry 'ema'; it has model, ema_model, epoch"):
        read_checkpoint(path, "ema")
    lightning = {"state_dict": {f"model.{name}": tensor for name, tensor in bare.items()}, "hyper_parameters": {}}
    assert read_checkpoint(write_torch_file(tmp_path / "l.ckpt", lightning)).passed_over == ("hyper_parameters",)


def test_a_folder_may_have_one_file_of_torch(tmp_path: Path) -> None:
    tensors, folder = random_tensors(SMALL), tmp_path / "hf"
    write_hf(tensors, SMALL, folder)
    torch.save(safetensors.torch.load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    expected = read_checkpoint(folder).tensors
    (folder / "model.safetensors").unlink()
    found = read_checkpoint(folder).tensors
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_adapters_and_programs_are_refused(tmp_path: Path) -> None:
    name = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"
    refused(write_torch_file(tmp_path / "a.pth", {name: torch.ones(2, 2)}), "is a LoRA adapter")
    safetensors.torch.save_file({name: torch.ones(2, 2)}, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "is a LoRA adapter")
    (tmp_path / "adapter").mkdir()
    for file, text in (("config.json", "{}"), ("adapter_config.json", "{}")):
        (tmp_path / "adapter" / file).write_text(text)
    refused(tmp_path / "adapter", "is a LoRA adapter")
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:
        for entry in ("program/data.pkl", "program/constants.pkl", "program/code/__torch__.py"):
            archive.writestr(entry, b"")
    refused(tmp_path / "program.pt", "a TorchScript program")


def test_compressed_and_lying_archives_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (100 << 20))
    refused(tmp_path / "bomb.pth", "compressed archive")
    content = bytearray(files["a.pth"].read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = (0xFFFFFF00).to_bytes(4, "little")
    (tmp_path / "lie.pth").write_bytes(content)
    refused(tmp_path / "lie.pth", "larger than a checkpoint's|damaged")


def test_a_tensor_that_claims_more_than_the_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    state = official_state(random_tensors(SMALL), SMALL)
    rows = 50_000_000  # 12.8 GB if it were real
    state["module.bert.embeddings.word_embeddings.weight"] = torch.zeros(1, 1).expand(rows, SMALL.text.hidden_size)
    path = write_torch_file(tmp_path / "a.pth", {"model": state})
    assert path.stat().st_size < 10_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, "claim to be larger than the file")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "mm.pth"])
@pytest.mark.parametrize("share", [0.0, 1e-5, 0.001, 0.3, 0.9, 0.99999])
def test_a_truncated_file_is_refused(files: dict[str, Path], tmp_path: Path, name: str, share: float) -> None:
    content = files[name].read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: int(len(content) * share)])
    refused(path)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "mm.pth"])
def test_damage_anywhere_gives_an_error_or_a_whole_model(files: dict[str, Path], tmp_path: Path, name: str) -> None:
    """Seeded damage to headers and pickles; numbers themselves carry no checksum."""
    content = files[name].read_bytes()
    if name == "a.safetensors":
        begin, end = 0, 8 + int.from_bytes(content[:8], "little")
    else:
        with zipfile.ZipFile(files[name]) as archive:
            entry = next(entry for entry in archive.infolist() if entry.filename.endswith("data.pkl"))
        begin, end = entry.header_offset, entry.header_offset + 200 + entry.file_size
    rng = random.Random(7)
    path = tmp_path / name
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(begin, end)] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read = read_checkpoint(path)
        except WeightsError:
            continue
        assert sum(tensor.size for tensor in read.tensors.values()) == parameter_count(read.config)


def test_headers_that_lie(files: dict[str, Path], tmp_path: Path) -> None:
    content = files["a.safetensors"].read_bytes()
    path = tmp_path / "a.safetensors"
    path.write_bytes((50 << 20).to_bytes(8, "little") + content[8:])
    refused(path, "has a header of 52428800 bytes")
    path.write_bytes((len(content)).to_bytes(8, "little") + content[8:])
    refused(path, "damaged safetensors")
    path.write_bytes((20_000).to_bytes(8, "little") + b"{" + b"[" * 19_999)
    refused(path, "damaged safetensors")


def _with_metadata(files: dict[str, Path], path: Path, **changes: str) -> Path:
    content = files["a.safetensors"].read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] |= changes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "pt"}, "does not say that it is"),
        ({"version": "2"}, "is of version '2'"),
        ({"config": "{"}, "its configuration"),
        ({"config": "[]"}, "its configuration"),
        ({"config": '{"more": 1}'}, "unknown key 'more'"),
        ({"config": '{"num_heads": 0}'}, "its configuration"),
        ({"config": '{"enc_layers": 1000000000000}'}, "its configuration has 10000"),
        ({"config": '{"num_feature_levels": 1000000000000}'}, "its configuration has"),
        ({"config": '{"backbone": {"out_stages": [999999999]}}'}, "no model has these sizes"),
        ({"config": '{"backbone": {"depths": [-1]}}'}, "no model has these sizes"),
        ({"config": '{"backbone": {"window_size": 5000}}'}, "window_size is 5000, at most 64 is possible"),
        ({"config": '{"max_text_len": 1000000000}'}, "max_text_len is 1000000000, at most 4096 is possible"),
        ({"config": '{"image_longest": 1000000000}'}, "image_longest is 1000000000, at most 8192 is possible"),
        ({"config": '{"attention": "sparse"}'}, "no model has these sizes"),
        ({"config": '{"text": {"kind": "t5"}}'}, "no model has these sizes"),
        ({"config": "{}"}, "of a wrong shape: "),
    ],
)
def test_configurations_that_lie(files: dict[str, Path], tmp_path: Path, change: dict[str, str], reason: str) -> None:
    refused(_with_metadata(files, tmp_path / "a.safetensors", **change), reason)


State = dict[str, torch.Tensor]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"module.more.weight": torch.ones(1)}, r"1 unknown: module\.more\.weight"),
        ({"module.feat_map.bias": None}, r"1 missing: feat_map\.bias"),
        ({"module.feat_map.bias": torch.ones(31)}, r"1 of a wrong shape: module\.feat_map\.bias \(31,\), \(32,\)"),
        ({"module.feat_map.bias": torch.full((32,), float("nan"))}, r"1 with numbers that are not finite: feat_map"),
        ({"module.feat_map.bias": torch.full((32,), 1e300, dtype=torch.float64)}, r"not finite: feat_map"),
        ({"module.feat_map.bias": torch.ones(32).int()}, r"1 without floating point: .*int32"),
        ({"module.feat_map.bias": torch.ones(32).to_sparse()}, r"feat_map"),
        ({"feat_map.bias": torch.ones(32)}, r"1 copies that differ: feat_map\.bias from module"),
        ({"module.bbox_embed.3.layers.0.weight": torch.ones(32, 32)}, r"1 unknown: module\.bbox_embed\.3"),
        ({"module.transformer.level_embed": None}, r"no tensor transformer\.level_embed with 2 axes"),
        ({f"module.x{n}": torch.ones(1) for n in range(9)}, r"9 unknown: module\.x0, .*module\.x4, \.\.\."),
    ],
)
def test_almost_a_model(tmp_path: Path, change: dict[str, torch.Tensor | None], reason: str) -> None:
    state = {**official_state(random_tensors(SMALL), SMALL), **change}
    state = {name: tensor for name, tensor in state.items() if tensor is not None}
    refused(write_torch_file(tmp_path / "a.pth", {"model": state}), reason)


@pytest.mark.parametrize("content", [[], {}, {"model": 3}, {"model": {}}, {"model": {3: torch.ones(1)}}, torch.ones(2)])
def test_no_state_dict(tmp_path: Path, content: Any) -> None:
    refused(write_torch_file(tmp_path / "a.pth", content), "holds no state dict|is not a model of this kind")


def test_other_files(tmp_path: Path) -> None:
    refused(tmp_path / "a.pth", "no such file")
    refused(tmp_path, r"config\.json: no such file")
    (tmp_path / "empty").touch()
    refused(tmp_path / "empty", "damaged")
    (tmp_path / "config.json").write_text("{}")
    refused(tmp_path, "has no model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    refused(tmp_path)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(b"before")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        write_official(random_tensors(SMALL), SMALL, path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_copied_file_reads_alike(files: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copy(files["a.pth"], tmp_path / "named-otherwise"))
    first, second = read_checkpoint(files["a.pth"]), read_checkpoint(copy)
    assert first.sha256 == second.sha256
    assert isinstance(first.config, Config)
    assert all(np.array_equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    assert io.BytesIO(copy.read_bytes()).read(2) == b"PK"
