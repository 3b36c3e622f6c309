"""Loading in the hub's file layout: strict, safe, one line per fault."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

import ovd_bench.detectors.hub as hub
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.cards.grounding_dino import CARDS as GROUNDING_DINO
from ovd_bench.detectors.cards.omdet_turbo import CARDS as OMDET_TURBO
from ovd_bench.detectors.cards.owl import CARDS as OWL
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.owl import OwlDetector, load
from ovd_bench.detectors.registry import load_detector
from ovd_bench.detectors.types import DetectorError
from ovd_bench.tests.detectors.tiny_models import write_owl

CARDS = (*OWL, *GROUNDING_DINO, *OMDET_TURBO)
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_owl(tmp_path_factory.mktemp("owl") / "tiny", 1)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy"))


def _load(weights: str | Path | None, family: str = "owlvit", device: str = "cpu") -> OwlDetector:
    card = DetectorCard("tiny", family, "torch", loader="ovd_bench.detectors.owl:load", weights="owner/model")
    return load(card, DetectorSettings(weights=None if weights is None else str(weights), device=device))


def _change(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_every_card_leads_to_a_loader_that_asks_for_its_weights(
    card: DetectorCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def unreachable(repository: str, **_: object) -> str:
        asked.append(repository)
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(hub, "snapshot_download", unreachable)
    with pytest.raises(DetectorError, match=card.name):
        load_detector(card.name, DetectorSettings())
    assert set(asked) == {card.weights}
    assert card.training_data
    assert card.licence
    assert card.parameters


def test_the_card_tells_what_was_loaded(folder: Path) -> None:
    card = _load(folder).card
    file = folder / "model.safetensors"
    assert card.weights == str(folder)
    assert card.weights_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert card.parameters == sum(tensor.numel() for tensor in load_file(file).values())


def test_shards_hash_as_sorted_lines_of_name_and_hash(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:50], "model-00002-of-00002.safetensors": names[50:]}
    lines = []
    for shard, keys in shards.items():
        save_file({key: tensors[key] for key in keys}, folder / shard, {"format": "pt"})
        lines.append(f"{shard} {hashlib.sha256((folder / shard).read_bytes()).hexdigest()}\n")
    index = {"metadata": {}, "weight_map": {key: shard for shard, keys in shards.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert _load(folder).card.weights_sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("layer_norm.bias"), "missing: layer_norm.bias"),
        (lambda t: t.update(extra=torch.zeros(3)), "not of this model: extra"),
        (lambda t: t.update({"layer_norm.bias": torch.zeros(3)}), "of the wrong shape: layer_norm.bias"),
    ],
)
def test_every_tensor_must_fit(folder: Path, change: Callable[[Tensors], object], message: str) -> None:
    _change(folder, change)
    with pytest.raises(DetectorError, match=message) as caught:
        _load(folder)
    assert "\n" not in str(caught.value)


def test_many_faults_are_counted(folder: Path) -> None:
    _change(folder, lambda t: [t.pop(name) for name in list(t) if ".encoder." in name])
    with pytest.raises(DetectorError, match=r"missing: .* … \(\+\d+\)"):
        _load(folder)


def test_computed_buffers_in_the_file_are_welcome(folder: Path) -> None:
    positions = {"owlvit.text_model.embeddings.position_ids": torch.arange(16)[None], "box_bias": torch.zeros(64, 4)}
    _change(folder, lambda t: t.update(positions))
    assert _load(folder).card.parameters is not None


def test_bin_files_are_read_without_pickle(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    assert _load(folder).card.weights_sha256

    marker = folder / "executed"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (marker,)

    torch.save({"layer_norm.bias": Hostile()}, folder / "pytorch_model.bin")
    with pytest.raises(DetectorError, match="the weights do not load"):
        _load(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(), protocol=2))
    with pytest.raises(DetectorError, match="the weights do not load"):
        _load(folder)
    assert not marker.exists()


def test_broken_files_are_one_line(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DetectorError, match="the weights do not load") as caught:
        _load(folder)
    assert "\n" not in str(caught.value)
    weights.unlink()
    with pytest.raises(DetectorError, match=r"expected model\.safetensors"):
        _load(folder)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(DetectorError, match="is a LoRA adapter"):
        _load(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(DetectorError, match="expected a JSON object"):
        _load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(DetectorError, match=r"no config\.json"):
        _load(folder)


def test_a_tokenizer_that_is_missing_is_one_line(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(DetectorError, match="the tokenizer's files are missing") as caught:
        _load(folder)
    assert "\n" not in str(caught.value)


def test_another_kind_of_model_is_refused(folder: Path) -> None:
    with pytest.raises(DetectorError, match="of type 'owlvit', detector 'tiny' needs 'owlv2'"):
        _load(folder, family="owlv2")


def test_an_unreachable_hub_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(repository: str, **_: object) -> str:
        raise LocalEntryNotFoundError("no connection\nand more lines")

    monkeypatch.setattr(hub, "snapshot_download", unreachable)
    with pytest.raises(DetectorError, match=r"'owner/model' .* \(no connection\): give --weights DIR"):
        _load(None)


def test_what_is_cached_is_not_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cached(repository: str, *, local_files_only: bool = False, **_: object) -> str:
        assert repository == "owner/model"
        assert local_files_only
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", cached)
    assert _load(None).card.weights == "owner/model"


@pytest.mark.parametrize("source", ["/no/such/folder", "./here", "one-word", "a/b/c"])
def test_what_is_neither_directory_nor_hub_id_is_refused(source: str) -> None:
    with pytest.raises(DetectorError, match="is neither a directory nor a hub id"):
        _load(source)


@pytest.mark.parametrize(
    ("device", "message"),
    [("cuda:99", "CUDA devices"), ("tpu9", "unknown device"), ("meta", "not supported: choose cpu, cuda")],
)
def test_devices_that_are_not_there(folder: Path, device: str, message: str) -> None:
    with pytest.raises(DetectorError, match=message):
        _load(folder, device=device)


def test_the_older_layout_with_vocabulary_and_merges_loads(folder: Path) -> None:
    written = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(written["vocab"]))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in written["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer", "model_max_length": 16}')
    assert _load(folder).card.parameters is not None
