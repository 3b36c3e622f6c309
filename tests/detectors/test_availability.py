"""What a detector lacks on this machine, told without importing a framework."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from ovd_bench.detectors import availability
from ovd_bench.detectors.availability import what_is_missing
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.registry import BUILT_IN


def test_shipped_weights_are_here() -> None:
    assert what_is_missing(BUILT_IN["owl-nano"]) == ""
    lost = dataclasses.replace(BUILT_IN["owl-nano"], weights="package:baselines/weights/nothing.safetensors")
    assert what_is_missing(lost) == "weights"
    assert what_is_missing(dataclasses.replace(lost, weights="package:no_such_package/a")) == "weights"


def test_weights_that_the_user_must_name() -> None:
    assert what_is_missing(BUILT_IN["glip-tiny"]) == "--weights"


def test_weights_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    card = BUILT_IN["owlv2-base-patch16"]
    assert what_is_missing(card) == "weights to fetch"
    snapshot = tmp_path / "models--google--owlv2-base-patch16" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").touch()
    assert what_is_missing(card) == "weights to fetch"
    (snapshot / "model.safetensors").touch()
    assert what_is_missing(card) == ""


def test_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> object:
        return None if name == "jittor" else importlib.util.find_spec(name)

    monkeypatch.setattr(availability, "find_spec", find)
    assert what_is_missing(BUILT_IN["grounding-dino-nano"]) == "package jittor"
    assert what_is_missing(BUILT_IN["owl-nano"]) == ""


def test_a_detector_of_numpy_needs_no_package(tmp_path: Path) -> None:
    card = DetectorCard("mine", family="mine", framework="numpy", loader="m:load", weights=str(tmp_path / "w.npz"))
    assert what_is_missing(card) == "weights"
    (tmp_path / "w.npz").touch()
    assert what_is_missing(card) == ""
