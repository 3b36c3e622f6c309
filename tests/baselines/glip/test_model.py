"""The whole network against the reference that reads the official state dict, and what may be cached."""

from __future__ import annotations

import dataclasses
from typing import cast

import pytest
import torch

from ovd_bench.baselines.glip.config import VARIANTS, GlipConfig
from ovd_bench.baselines.glip.model import Glip, GlipOutput, TextFeatures, normalize
from ovd_bench.tests.baselines.glip import reference
from ovd_bench.tests.baselines.glip.tiny import TINY, caption_tokens, drawn, official_state, random_pixels

FUSED, PLAIN = TINY, dataclasses.replace(TINY, fused=False)
BOTH = pytest.mark.parametrize("config", [FUSED, PLAIN], ids=["fused", "variant-a"])
FIELDS = ("logits", "deltas", "centerness")


def _run(model: Glip, pixels: torch.Tensor, text: TextFeatures) -> GlipOutput:
    with torch.inference_mode():
        return cast(GlipOutput, model(model.encode_image(pixels), text))


@BOTH
@pytest.mark.parametrize("size", [(96, 128), (70, 100), (33, 65)])
def test_outputs_are_those_of_the_reference_on_the_official_state_dict(
    config: GlipConfig, size: tuple[int, int]
) -> None:
    """Float64 on both sides; a padded caption; sizes that no stride divides."""
    model = drawn(config).double()
    state = {name: t.double() if t.is_floating_point() else t for name, t in official_state(model).items()}
    ids, mask = caption_tokens(9, padded=14)
    pixels = random_pixels(*size).double()
    found = _run(model, pixels, model.encode_text(ids, mask))
    with torch.inference_mode():
        expected = reference.glip(state, pixels[0], ids[0], mask[0].long(), config)
    for name in FIELDS:
        ours, theirs = getattr(found, name)[0], getattr(expected, name)
        assert theirs.std() > 0.05
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-11)


@BOTH
def test_float32_stays_near_float64(config: GlipConfig) -> None:
    """Sampling has kinks, so rounding in an offset may grow; two blocks keep it below this."""
    model = drawn(config)
    ids, mask = caption_tokens(9)
    pixels = random_pixels(70, 100)
    single = _run(model, pixels, model.encode_text(ids, mask))
    model.double()
    double = _run(model, pixels.double(), model.encode_text(ids, mask))
    for name in FIELDS:
        torch.testing.assert_close(getattr(single, name).double(), getattr(double, name), atol=1e-4, rtol=1e-4)


@BOTH
def test_padding_of_a_caption_reaches_no_token(config: GlipConfig) -> None:
    """So a caption may be padded to 256, as officially, to its batch, or not at all."""
    model = drawn(config).double()
    pixels = random_pixels(64, 64).double()
    plain = _run(model, pixels, model.encode_text(*caption_tokens(9)))
    for padded in (14, 48):
        other = _run(model, pixels, model.encode_text(*caption_tokens(9, padded=padded)))
        torch.testing.assert_close(other.logits[..., :9], plain.logits, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(other.deltas, plain.deltas, atol=1e-12, rtol=1e-12)


@BOTH
def test_one_image_with_many_captions_and_many_images_with_one(config: GlipConfig) -> None:
    model = drawn(config).double()
    texts = [model.encode_text(*caption_tokens(n, n, padded=12)) for n in (9, 12, 5)]
    together = TextFeatures(*(torch.cat([getattr(t, name) for t in texts]) for name in ("hidden", "mask")))
    pixels = random_pixels(64, 80, batch=3).double()
    many = _run(model, pixels[:1], together)
    images = _run(model, pixels, texts[0])
    for number, text in enumerate(texts):
        for name in FIELDS:
            alone = getattr(_run(model, pixels[:1], text), name)[0]
            torch.testing.assert_close(getattr(many, name)[number], alone, atol=1e-12, rtol=1e-12)
            alone = getattr(_run(model, pixels[number : number + 1], texts[0]), name)[0]
            torch.testing.assert_close(getattr(images, name)[number], alone, atol=1e-12, rtol=1e-12)


@BOTH
def test_features_are_not_written_to(config: GlipConfig) -> None:
    """The official head overwrites the text with what it made of the image; a cache would pass that on."""
    model = drawn(config)
    text = model.encode_text(*caption_tokens(9))
    with torch.inference_mode():
        image = model.encode_image(random_pixels(64, 64))
        before = [tensor.clone() for tensor in (*image.levels, text.hidden)]
        first = model(image, text)
        again = model(image, text)
    for tensor, old in zip((*image.levels, text.hidden), before, strict=True):
        assert torch.equal(tensor, old)
    assert torch.equal(first.logits, again.logits)


def test_without_fusion_only_the_dot_product_is_left_for_a_caption() -> None:
    """No block of the head, no box and no centerness runs again."""
    model = drawn(PLAIN)
    text = model.encode_text(*caption_tokens(9))
    ran: list[str] = []
    with torch.inference_mode():
        image = model.encode_image(random_pixels(64, 64))
        for name, module in model.named_modules():
            module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
        model(image, text)
    assert ran == ["", "rpn.head", "rpn.head.dot_product_projection_text"]


def test_only_the_fused_text_depends_on_the_other_names() -> None:
    """What makes chunks part of the protocol: through fusion the boxes depend on the caption, in variant A not."""
    pixels = random_pixels(64, 64)
    for config, depends in ((FUSED, True), (PLAIN, False)):
        model = drawn(config)
        outputs = [_run(model, pixels, model.encode_text(*caption_tokens(9, seed))) for seed in (0, 1)]
        assert torch.equal(outputs[0].deltas, outputs[1].deltas) is not depends


def test_pixel_hashes_become_blue_first() -> None:
    rgb = torch.tensor([255.0, 128.0, 0.0]).view(3, 1, 1)
    found = normalize(rgb.expand(2, 3, 4, 5))
    expected = torch.tensor([(0 - 103.53) / 57.375, (128 - 116.28) / 57.12, (255 - 123.675) / 58.395])
    torch.testing.assert_close(found, expected.view(3, 1, 1).expand(2, 3, 4, 5))


def test_a_token_is_unlikely_before_training() -> None:
    torch.manual_seed(0)
    model = Glip(TINY).eval()
    with torch.no_grad():
        head = model.rpn["head"]
        head.dot_product_projection_text.weight.zero_()
        logits = model(model.encode_image(random_pixels(64, 64)), model.encode_text(*caption_tokens(9))).logits
    torch.testing.assert_close(logits.sigmoid().median(), torch.tensor(0.01), atol=0.005, rtol=0)


@pytest.mark.parametrize(
    ("name", "parameters"), [("tiny-a", 152_021_118), ("tiny", 232_370_814), ("large", 431_012_976)]
)
def test_variants_have_their_parameters(name: str, parameters: int) -> None:
    """With the closed-set head and BERT's pooler (models.md 7.6; that of L follows from its shapes)."""
    with torch.device("meta"):
        model = Glip(VARIANTS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anchor_sizes": (16, 32)}, "2 anchor_sizes, 5 levels"),
        ({"fusion_width": 50}, "fusion_width is 50, a multiple of 3"),
        ({"norm_groups": 5}, "channels is 32, a multiple of 5"),
        ({"coarse_offsets": "flat"}, "coarse_offsets is 'flat'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)  # type: ignore[arg-type]
