"""``--key``: which entry of a training checkpoint is loaded, and that it identifies the weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

import ovd_bench.tests.grounding_dino_jt.dino.small as dino_files
from ovd_bench.baselines.glip.config import VARIANTS
from ovd_bench.baselines.glip.weights import read_weights
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.glip import load
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.registry import load_detector
from ovd_bench.detectors.types import DetectorError
from ovd_bench.grounding_dino_jt.dino.weights import read_checkpoint, write_canonical
from ovd_bench.grounding_dino_jt.weights.errors import WeightsError
from ovd_bench.tests.baselines.glip.tiny import TINY, drawn, official_state

CARD = DetectorCard("tiny", family="glip", framework="torch", loader="ovd_bench.detectors.glip:load")
#: A parameter that tells the two states apart.
NAME = "rpn.head.bias_lang"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training leaves behind: the weights and their moving average."""
    path = tmp_path_factory.mktemp("glip") / "last.pth"
    states = {"model": official_state(drawn(TINY)), "ema_model": official_state(drawn(TINY, 1)), "epoch": 3}
    torch.save(states, path)
    return path


def test_glip_reads_the_entry_that_is_named(checkpoint: Path) -> None:
    for key, seed in ((None, 0), ("model", 0), ("ema_model", 1)):
        model, _ = read_weights(checkpoint, TINY, key)
        assert torch.equal(model.state_dict()[NAME], drawn(TINY, seed).state_dict()[NAME])
    with pytest.raises(ValueError, match="has no entry 'ema'; it has model, ema_model, epoch"):
        read_weights(checkpoint, TINY, "ema")
    with pytest.raises(ValueError, match="holds no state dict"):
        read_weights(checkpoint, TINY, "epoch")


def test_dino_reads_the_entry_that_is_named(tmp_path: Path) -> None:
    config = dino_files.SMALL
    numbers = {key: dino_files.drawn(config, seed) for seed, key in enumerate(("model", "ema_model"))}
    torch.save({key: dino_files.official_state(one, config) for key, one in numbers.items()}, tmp_path / "a.pth")
    for key, expected in numbers.items():
        read = read_checkpoint(tmp_path / "a.pth", key)
        assert all(np.array_equal(read.tensors[name], expected[name]) for name in expected)
    assert "ema_model" not in read.dropped
    write_canonical(numbers["model"], config, tmp_path / "a.safetensors", source="", source_sha256="")
    with pytest.raises(WeightsError, match="has no entries such as 'ema_model'"):
        read_checkpoint(tmp_path / "a.safetensors", "ema_model")


def test_the_key_identifies_the_weights(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VARIANTS, "tiny", TINY)
    plain, keyed = (
        load(CARD, DetectorSettings(weights=str(checkpoint), weights_key=key)).card for key in (None, "ema_model")
    )
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert plain.weights_sha256 == sha256
    assert keyed.weights_sha256 == hashlib.sha256(f"{sha256} ema_model\n".encode()).hexdigest()
    assert "weights: entry 'ema_model' of the checkpoint" in keyed.notes
    assert not [note for note in plain.notes if "entry" in note]


def test_detectors_without_checkpoints_refuse_a_key(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="'owlvit-base-patch32' reads no training checkpoint, so it has no key"):
        load_detector("owlvit-base-patch32", DetectorSettings(weights=str(tmp_path), weights_key="ema_model"))
