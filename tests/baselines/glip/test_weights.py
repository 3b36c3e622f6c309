"""Files of all layouts give the same model; a fault is reported in one line."""

from __future__ import annotations

import dataclasses
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from ovd_bench.baselines.glip.config import VARIANTS
from ovd_bench.baselines.glip.model import Glip
from ovd_bench.baselines.glip.weights import LEFTOVERS, holds_glip, read_weights, write_weights
from ovd_bench.tests.baselines.glip.tiny import TINY, drawn, mmdet_state, official_state, write_official

PLAIN = dataclasses.replace(TINY, fused=False)


def _same(found: Glip, expected: Glip, apart: str = "(?!)") -> None:
    ours, theirs = found.state_dict(), expected.state_dict()
    assert set(ours) == {name for name in theirs if not re.search(apart, name)}
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
        assert tensor.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in found.parameters())
    assert not found.training


@pytest.mark.parametrize("config", [TINY, PLAIN], ids=["fused", "variant-a"])
def test_all_layouts_give_the_same_model(config: Any, tmp_path: Path) -> None:
    model = drawn(config)
    official = write_official(model, tmp_path / "official.pth")
    read, about = read_weights(official, config)
    _same(read, model)
    assert (about.layout, about.config) == ("official", config)
    assert all(LEFTOVERS.fullmatch(name.removeprefix("module.")) for name in about.dropped)
    assert len(about.dropped) == sum(config.swin.depths) + 1 + 5

    torch.save({"state_dict": mmdet_state(official_state(model))}, tmp_path / "mmdet.pth")
    read, about = read_weights(tmp_path / "mmdet.pth", config)
    _same(read, model, apart="cls_logits|pooler")
    assert about.layout == "mmdet"

    write_weights(model, tmp_path / "own.safetensors", "canonical", "drawn")
    read, about = read_weights(tmp_path / "own.safetensors")
    _same(read, model)
    assert (about.layout, about.config, about.dropped) == ("canonical", config, ())

    write_weights(model, tmp_path / "again.pth", "official")
    _same(read_weights(tmp_path / "again.pth", config)[0], model)
    assert sorted(path.name for path in tmp_path.iterdir() if "unfinished" in path.name) == []


def test_a_file_says_whether_it_has_what_nothing_uses(tmp_path: Path) -> None:
    state = official_state(drawn(TINY))
    bare = {name: tensor for name, tensor in state.items() if "pooler" not in name and "cls_logits" not in name}
    torch.save({"model": bare}, tmp_path / "bare.pth")
    model, about = read_weights(tmp_path / "bare.pth", TINY)
    assert (about.config.text_pooler, about.config.classes) == (False, 0)
    _same(model, drawn(TINY), apart="cls_logits|pooler")


def test_what_only_training_uses_is_left_out(tmp_path: Path) -> None:
    """The heads of losses that are off in testing (``MLM_LOSS``, ``USE_CONTRASTIVE_ALIGN_LOSS``)."""
    state = official_state(drawn(TINY))
    names = [f"module.rpn.head.mlm_head.{name}" for name in ("bias", "decoder.weight", "transform.dense.bias")]
    names += ["module.rpn.resizer.fc.weight", "module.rpn.resizer.layer_norm.bias"]
    torch.save({"model": state | {name: torch.zeros(3) for name in names}}, tmp_path / "w.pth")
    model, about = read_weights(tmp_path / "w.pth", TINY)
    _same(model, drawn(TINY))
    assert set(names) <= set(about.dropped)


def _changed(change: Callable[[dict[str, Any]], Any], path: Path) -> Path:
    state: dict[str, Any] = dict(official_state(drawn(TINY)))
    change(state)
    torch.save({"model": state}, path)
    return path


NAME = "module.rpn.head.dyhead_tower.5.offset.bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(NAME), "missing: rpn.head.dyhead_tower.5.offset.bias"),
        (lambda state: state.update(other=torch.zeros(1)), "not of this model: other"),
        (
            lambda state: state.update({NAME: torch.zeros(26)}),
            "of the wrong shape: rpn.head.dyhead_tower.5.offset.bias",
        ),
        (lambda state: state.update({NAME: torch.full((27,), torch.nan)}), "something else than finite numbers"),
        (lambda state: state.update({NAME: torch.zeros(27, dtype=torch.int64)}), "something else than finite numbers"),
        (lambda state: state.update({NAME.removeprefix("module."): torch.zeros(27)}), "holds '.*offset.bias' twice"),
        (lambda state: state.pop("module.rpn.head.bias_lang"), "is not a GLIP of"),
        (lambda state: state.update({"odd\nname": torch.zeros(1)}), r"not of this model: odd\?name"),
        (lambda state: state.update({NAME: [1, 2]}), "holds no state dict"),
    ],
)
def test_what_does_not_fit_is_named(change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path) -> None:
    path = _changed(change, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message) as told:
        read_weights(path, TINY)
    assert "\n" not in str(told.value)


def test_a_file_of_no_known_size_needs_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a GLIP of no known size"):
        read_weights(write_official(drawn(TINY), tmp_path / "w.pth"))


class _Evil:
    def __reduce__(self) -> Any:
        return print, ("executed",)


def test_files_that_are_none_or_would_run_something_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_weights(tmp_path / "absent.pth")
    evil = tmp_path / "evil.pth"
    torch.save({"model": _Evil()}, evil)
    with pytest.raises(ValueError, match="refused, it holds something else than tensors"):
        read_weights(evil)
    assert capsys.readouterr().out == ""
    good = write_official(drawn(TINY), tmp_path / "good.pth")
    cut = tmp_path / "cut.pth"
    cut.write_bytes(good.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged one"):
        read_weights(cut)
    squeezed = tmp_path / "squeezed.pth"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    with pytest.raises(ValueError, match="a compressed archive"):
        read_weights(squeezed)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x10" + bytes(40))
    with pytest.raises(ValueError, match="is a damaged weights file"):
        read_weights(broken)
    assert [holds_glip(path) for path in (good, evil, cut, broken)] == [True, False, False, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: about.update(format=2), "format 2, this version reads 1"),
        (lambda about: about["config"].update(blocks=10**9), "config has sizes that no GLIP has"),
        (lambda about: about["config"].update(blocks=1000), "more layers than any GLIP"),
        (lambda about: about["config"].update(extra=1), "other keys than this version's"),
        (lambda about: about["config"].update(channels="32"), "other keys than this version's"),
        (lambda about: about["config"].update(fusion_heads=0), "damaged weights file"),
        (lambda about: about["config"]["swin"].update(num_heads=[1]), "describes no GLIP"),
        (lambda about: about["config"]["swin"].update(out_stages=[1, 2, 60000]), "other output stages"),
        (lambda about: about["config"]["swin"].update(embed_dim=4096), "do not fit the model: of the wrong shape"),
        (lambda about: about.pop("config"), "damaged weights file"),
    ],
)
def test_a_header_is_not_believed(change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    write_weights(drawn(TINY), path, "canonical")
    with safetensors.safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["glip"])
    change(about)
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, {"glip": json.dumps(about)})
    with pytest.raises(ValueError, match=message):
        read_weights(path)


@pytest.mark.full
@pytest.mark.parametrize("name", ["tiny-a", "tiny"])
def test_the_real_size_is_known_by_its_shapes(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Glip(VARIANTS[name])
    read, about = read_weights(write_official(model, tmp_path / "w.pth"))
    _same(read, model)
    assert about.config == VARIANTS[name]
