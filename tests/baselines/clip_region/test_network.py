"""Embeddings against open_clip's own, and patches against attention that sees nothing but itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import resize_pos_embed

from ovd_bench.baselines.clip_region.network import ClipNetwork, Normalisation
from ovd_bench.tests.baselines.clip_region.tiny import open_clip_model

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def noise(height: int, width: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _patches(model: open_clip.CLIP, pixels: Any) -> torch.Tensor:
    """Patches of a square image, by open_clip's blocks; in the last one a mask hides all tokens but the own."""
    visual, batch = model.visual, torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        tokens = visual._embeds(batch)
        for block in visual.transformer.resblocks[:-1]:
            tokens = block(tokens)
        count = tokens.shape[1]
        alone = torch.full((count, count), float("-inf")).fill_diagonal_(0)
        tokens = visual.ln_post(visual.transformer.resblocks[-1](tokens, attn_mask=alone))
        patches: torch.Tensor = tokens[0, 1:] @ visual.proj
    return patches.view(*visual.grid_size, -1)


@pytest.mark.parametrize("settings", [{}, {"ls_init_value": 0.5}])
def test_patches_are_those_of_attention_to_oneself_alone(settings: dict[str, Any]) -> None:
    model = open_clip_model(**settings)
    pixels = noise(32, 32)
    found = ClipNetwork(model, PLAIN).encode_patches(pixels)
    assert found.shape == (4, 4, 16)
    torch.testing.assert_close(found, _patches(model, pixels), atol=1e-5, rtol=1e-5)
    whole = ClipNetwork(model, PLAIN).encode_crops([pixels])[0]
    cosines = torch.nn.functional.normalize(found, dim=-1) @ whole
    assert cosines.min() < 0.9, "patches must differ from the class token, or the comparison says nothing"


def test_a_larger_image_gets_the_positions_that_open_clip_stretches() -> None:
    small, large = open_clip_model(), open_clip_model(image_size=48)
    state = small.state_dict()
    resize_pos_embed(state, large)
    large.load_state_dict(state)
    pixels = noise(48, 48)
    found = ClipNetwork(small, PLAIN).encode_patches(pixels)
    torch.testing.assert_close(found, _patches(large, pixels), atol=1e-5, rtol=1e-5)


def test_rows_and_columns_of_a_long_image_are_not_swapped() -> None:
    network = ClipNetwork(open_clip_model(), PLAIN)
    pixels = np.full((16, 64, 3), 90, np.uint8)
    before = network.encode_patches(pixels)
    pixels[8:, 40:48] = 250  # second row, sixth column
    change = (network.encode_patches(pixels) - before).norm(dim=-1)
    assert change.shape == (2, 8)
    assert divmod(int(change.argmax()), 8) == (1, 5)


def test_crops_and_texts_are_open_clips() -> None:
    model = open_clip_model()
    colours = Normalisation((0.4, 0.5, 0.6), (0.3, 0.2, 0.1))
    network = ClipNetwork(model, colours)
    crops = [noise(32, 32), noise(32, 32)[::-1]]
    prepared = torch.stack([torch.from_numpy(crop.copy()).permute(2, 0, 1) / 255 for crop in crops])
    prepared = (prepared - torch.tensor(colours.mean).view(3, 1, 1)) / torch.tensor(colours.std).view(3, 1, 1)
    texts = ["a photo of a cat", "zebra"]
    with torch.inference_mode():
        torch.testing.assert_close(network.encode_crops(crops), model.encode_image(prepared, normalize=True))
        for text, vector in zip(texts, network.encode_texts(texts), strict=True):
            ids = open_clip.SimpleTokenizer(context_length=16)([text])
            torch.testing.assert_close(vector, model.encode_text(ids, normalize=True)[0], atol=1e-6, rtol=0)
    assert network.scale == pytest.approx(float(model.logit_scale.detach().exp()))
    assert (network.image_size, network.patch_size, network.fill) == (32, 8, (102, 128, 153))


def test_prompts_that_are_cut_are_told() -> None:
    network = ClipNetwork(open_clip_model(), PLAIN)
    fits, long = " ".join(["cat"] * 14), " ".join(["cat"] * 15)
    assert network.too_long([fits, long]) == [long]


@pytest.mark.parametrize("settings", [{"pool_type": "avg"}, {"attentional_pool": True}, {"qk_norm": True}])
def test_towers_whose_patches_mean_something_else_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a plain square vision transformer"):
        ClipNetwork(open_clip_model(**settings), PLAIN)
