"""Weights files without the text encoder that an installed package brings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ovd_bench.grounding_dino_jt.config import MINILM
from ovd_bench.grounding_dino_jt.tokenizer import packaged_folder
from ovd_bench.grounding_dino_jt.weights import WeightsError, read_text_encoder, read_weights, write_canonical
from ovd_bench.grounding_dino_jt.weights.safetensors_file import read_safetensors
from ovd_bench.tests.grounding_dino_jt.weight_files import SMALL, Tensors, random_tensors, same

CONFIG = replace(SMALL, text=MINILM)


@pytest.fixture(scope="module")
def packaged() -> tuple[Tensors, str]:
    """A small model that reads text with the package, and the package's sum."""
    text, _, sha256 = read_text_encoder(packaged_folder())
    return random_tensors(CONFIG) | text, sha256


def _write(path: Path, tensors: Tensors, sha256: str, *, half: bool = False) -> Path:
    about = {"about": "a test"}
    write_canonical(
        tensors, CONFIG, path, source="", source_sha256="", half=half, packaged_text_sha256=sha256, about=about
    )
    return path


def test_the_text_encoder_comes_from_the_package(tmp_path: Path, packaged: tuple[Tensors, str]) -> None:
    tensors, sha256 = packaged
    path = _write(tmp_path / "w.safetensors", tensors, sha256)
    stored, metadata = read_safetensors(path)
    assert not any(name.startswith("bert.") for name in stored)
    assert metadata["packaged_text_sha256"] == sha256
    assert metadata["about"] == "a test"
    read, config, _ = read_weights(path)
    assert config == CONFIG
    assert same(read, tensors)
    with_text = _write(tmp_path / "all.safetensors", tensors, "")
    assert with_text.stat().st_size > path.stat().st_size + 80_000_000  # 22.6 million numbers
    assert same(read_weights(with_text)[0], tensors)


def test_half_of_it_is_full(tmp_path: Path, packaged: tuple[Tensors, str]) -> None:
    """The model is rounded to float16, the package's text encoder is not."""
    tensors, sha256 = packaged
    read, _, _ = read_weights(_write(tmp_path / "w.safetensors", tensors, sha256, half=True))
    for name, values in tensors.items():
        expected = values if name.startswith("bert.") else values.astype(np.float16).astype(np.float32)
        assert (read[name] == expected).all()


def test_another_package_is_refused(
    tmp_path: Path, packaged: tuple[Tensors, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors, sha256 = packaged
    path = _write(tmp_path / "w.safetensors", tensors, "0" * 64)
    with pytest.raises(WeightsError, match="was trained with another text encoder than the package"):
        read_weights(path)
    path = _write(path, tensors, sha256)
    monkeypatch.setattr("ovd_bench.grounding_dino_jt.tokenizer.PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(
        WeightsError, match=r"w\.safetensors: its text encoder cannot be read: .*is not installed"
    ) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_a_text_encoder_twice_is_refused(tmp_path: Path, packaged: tuple[Tensors, str]) -> None:
    """A file that states that it has no text encoder, but has one."""
    tensors, sha256 = packaged
    whole = _write(tmp_path / "all.safetensors", tensors, "").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = whole[8 : 8 + length].rstrip()
    said = header.replace(b'"__metadata__":{', b'"__metadata__":{"packaged_text_sha256":"' + sha256.encode() + b'",')
    assert said != header
    (tmp_path / "w.safetensors").write_bytes(len(said).to_bytes(8, "little") + said + whole[8 + length :])
    with pytest.raises(WeightsError, match=r"bert\."):
        read_weights(tmp_path / "w.safetensors")
