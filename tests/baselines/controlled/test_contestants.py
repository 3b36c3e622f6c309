"""The contestants: what they learn from, and what they must not depend on."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.ops import roi_align

from ovd_bench.baselines.controlled.captions import Captions
from ovd_bench.baselines.controlled.config import ContestantConfig
from ovd_bench.baselines.controlled.models import build, normalised
from ovd_bench.baselines.controlled.owl import Owl
from ovd_bench.baselines.controlled.parts import Grid
from ovd_bench.baselines.controlled.region import Region
from ovd_bench.baselines.controlled.train import padded_targets
from ovd_bench.baselines.owl_nano.boxes import iou
from ovd_bench.tests.baselines.controlled.toy import BENCH, CAT, CLS, DOGS, ENCODER, SEP, SMALL, batch, tokens, trainer

CONFIGS = {
    "owl": SMALL,
    "owl-hungarian": replace(SMALL, assignment="hungarian"),
    "region": replace(SMALL, kind="region"),
    "glip": replace(SMALL, kind="glip", width=32, blocks=1, fusion_width=16),
}


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> ContestantConfig:
    return CONFIGS[request.param]


def _pixels(images: int = 1) -> torch.Tensor:
    return normalised(torch.from_numpy(batch().images[:images]).permute(0, 3, 1, 2))


def _captions(*rows: tuple[int, ...]) -> Captions:
    return ENCODER(*tokens(rows))


THREE = (CLS, *CAT, *DOGS, *BENCH, SEP)


def test_it_learns(config: ContestantConfig) -> None:
    training = trainer(config)
    losses = [training.train_step(batch(step % 2))["loss"] for step in range(60)]
    assert np.mean(losses[-6:]) < 0.6 * np.mean(losses[:6])


def test_every_parameter_gets_a_gradient(config: ContestantConfig) -> None:
    """But the scale of a level of GLIP's at which no object of these is learned."""
    training = trainer(config)
    for _ in range(2):  # box heads start at zero, what is below them waits for a step
        training.train_step(batch())
    still = {name for name, value in training.model.named_parameters() if value.grad is None or not value.grad.any()}
    assert still <= {f"head.scales.{level}.scale" for level in (1, 2, 3)}
    assert not still or config.kind == "glip"


def test_what_is_found_is_sound(config: ContestantConfig) -> None:
    model = build(config)
    with torch.no_grad():
        boxes, scores = model.find(model.see(_pixels()), _captions(THREE))
    assert boxes.shape == (scores.shape[1], 4)
    assert scores.shape[0] == 3
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_sides_that_no_stride_divides(config: ContestantConfig) -> None:
    model = build(config)
    with torch.no_grad():
        boxes, scores = model.find(model.see(torch.randn(1, 3, 50, 83)), _captions(THREE))
    assert boxes.shape[0] == scores.shape[1] > 0
    if config.kind == "glip":  # whose coarse levels reach over the border
        return
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2  # before training every box lies at its cell
    assert (centres < torch.tensor([88.0, 56.0])).all()


def test_the_loss_of_a_batch_has_no_part_in_absent_phrases(config: ContestantConfig) -> None:
    """Columns that a caption lacks because another one has more are neither right nor wrong."""
    model = build(config)
    content = batch()
    captions = ENCODER(content.ids, content.real)
    targets = padded_targets(content, captions.known())
    wider = replace(captions, words=functional.pad(captions.words, (0, 0, 0, 5)))
    pixels = normalised(torch.from_numpy(content.images).permute(0, 3, 1, 2))
    parts = model.losses(pixels, captions, targets)
    more = model.losses(pixels, wider, padded_targets(content, wider.known()))
    for name, value in parts.items():
        torch.testing.assert_close(more[name], value, msg=name)


def test_owl_scores_a_phrase_alike_in_any_company() -> None:
    model = Owl(SMALL)
    with torch.no_grad():
        alone = model.find(model.see(_pixels()), _captions((CLS, *DOGS, SEP)))
        among = model.find(model.see(_pixels()), _captions(THREE))
    torch.testing.assert_close(among.scores[1], alone.scores[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(among.boxes_xyxy, alone.boxes_xyxy)


def test_regions_are_found_without_text_and_shared_out_among_the_phrases() -> None:
    model = Region(CONFIGS["region"])
    with torch.no_grad():
        one, three = (
            model.find(model.see(_pixels()), _captions((CLS, *CAT, SEP))),
            model.find(model.see(_pixels()), _captions(THREE)),
        )
    torch.testing.assert_close(one.boxes_xyxy, three.boxes_xyxy)
    torch.testing.assert_close(three.scores.sum(0), one.scores[0])
    assert len(one.boxes_xyxy) <= CONFIGS["region"].regions
    overlaps = iou(one.boxes_xyxy[:, None], one.boxes_xyxy) - torch.eye(len(one.boxes_xyxy))
    assert overlaps.max() <= 0.7
    assert (one.scores[0].diff() <= 0).all()


def test_names_of_regions_are_cosines_of_what_is_inside() -> None:
    """Against the definition, region by region; phrases that a caption lacks are impossible."""
    model = Region(CONFIGS["region"])
    captions = _captions(THREE, (CLS, *BENCH, SEP))
    boxes = [torch.tensor([[3.0, 5.0, 40.0, 30.0], [10.0, 10.0, 20.0, 60.0]]), torch.tensor([[0.0, 0.0, 64.0, 64.0]])]
    with torch.no_grad():
        tokens_ = model.grid(model.backbone(_pixels(2)))
        logits = model.names(tokens_, boxes, captions)
        for image, own in enumerate(boxes):
            for number, box in enumerate(own):
                grid = tokens_[image : image + 1].permute(0, 3, 1, 2)
                inside = roi_align(grid, [box[None]], 5, 1 / 8, sampling_ratio=2, aligned=True)[0]
                seen = model.likeness.embed(model.pooled(inside.permute(1, 2, 0).reshape(-1)))
                for phrase in range(3):
                    said = model.likeness.text(captions.phrase_vectors()[image, phrase])
                    cosine = float(torch.cosine_similarity(seen, said, dim=0))
                    wanted = cosine / 0.07 if image == 0 or phrase == 0 else -math.inf
                    assert float(logits[image][number, phrase]) == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_the_grid_adds_coarser_maps_from_above() -> None:
    config = replace(SMALL, backbone=replace(SMALL.backbone, out_stages=(1, 2)))
    grid = Grid(config)
    maps = [torch.randn(1, 5, 7, 16), torch.randn(1, 3, 4, 32)]
    with torch.no_grad():
        found = grid(maps)
        for row in range(5):
            for column in range(7):
                token = grid.lateral[0](maps[0][0, row, column]) + grid.lateral[1](maps[1][0, row // 2, column // 2])
                torch.testing.assert_close(found[0, row, column], grid.norm(token), atol=1e-5, rtol=1e-4)


def test_padding_of_an_image_is_zero_for_the_network() -> None:
    """As Grounding DINO has it; grey would be something to see."""
    training = trainer(SMALL)
    seen: list[torch.Tensor] = []

    def losses(pixels: torch.Tensor, *_: object) -> dict[str, torch.Tensor]:
        seen.append(pixels)
        return {}

    training.model.losses = losses  # type: ignore[assignment,method-assign]
    content = batch()
    training.losses(replace(content, images=np.full_like(content.images, 200)))
    assert (seen[0][1, :, :, 48:] == 0).all()
    assert (seen[0][2, :, 48:] == 0).all()
    assert (seen[0][1, :, :, :48] != 0).all()


def test_a_resumed_training_is_the_same_bit_for_bit(config: ContestantConfig) -> None:
    """With paths dropped at random."""
    config = replace(config, backbone=replace(config.backbone, drop_path_rate=0.5))
    whole = trainer(config, steps=6)
    curve = [whole.train_step(batch(step)) for step in range(6)]
    first = trainer(config, steps=6)
    for step in range(3):
        first.train_step(batch(step))
    saved = first.checkpoint()
    second = trainer(config, steps=6)
    torch.manual_seed(99)
    second.restore(saved)
    assert [second.train_step(batch(step)) for step in range(3, 6)] == curve[3:]
    assert all(torch.equal(a, b) for a, b in zip(second.average.parameters(), whole.average.parameters(), strict=True))


def test_seeds_share_the_backbone_and_nothing_else() -> None:
    one, other = trainer(SMALL, seed=0), trainer(SMALL, seed=1)
    other_state = other.model.state_dict()
    for name, value in one.model.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(value, other_state[name]), name
        elif value.ndim > 1 and value.any():
            assert not torch.equal(value, other_state[name]), name


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "detr"}, "no contestant is of kind 'detr'"),
        ({"assignment": "best"}, "with assignment 'best'"),
        ({"width": 0}, "out of range"),
        ({"image_size": 0}, "out of range"),
        ({"backbone": replace(SMALL.backbone, out_stages=(10**9, 10**9 + 1))}, "do not fit together"),
        ({"backbone": replace(SMALL.backbone, out_stages=(1,))}, "two or more neighbouring stages"),
        ({"backbone": replace(SMALL.backbone, out_stages=(0, 2))}, "two or more neighbouring stages"),
        ({"backbone": replace(SMALL.backbone, out_stages=(0, 1))}, "every 8 pixels"),
        ({"backbone": replace(SMALL.backbone, depths=(1, 10**9, 1))}, "counts must be 1 to 64"),
        ({"backbone": replace(SMALL.backbone, embed_dim=10**7)}, "embed_dim at most 4096"),
        ({"backbone": replace(SMALL.backbone, num_heads=(1, 2))}, "do not fit together"),
        ({"backbone": replace(SMALL.backbone, depths=(1, 1), num_heads=(1, 2))}, "do not fit together"),
        ({"backbone": replace(SMALL.backbone, num_heads=(1, 3, 4))}, "must divide the channels"),
        ({"kind": "glip", "blocks": 10**6}, "counts must be 1 to 64"),
        ({"extra_levels": 3}, "extra_levels is 3"),
        ({"coarse_offsets": "suffix"}, "coarse_offsets 'suffix'"),
        ({"fusion_gate": -0.1}, "fusion_gate is -0.1"),
        ({"fusion_gate": math.nan}, "fusion_gate is nan"),
    ],
)
def test_what_is_no_contestant_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        replace(SMALL, **change)  # type: ignore[arg-type]


def test_glip_has_the_levels_and_anchors_that_its_configuration_says() -> None:
    """Three levels, of strides 8, 16 and 32, with anchors of three strides; by default GLIP's two levels more."""
    config = replace(CONFIGS["glip"], anchor=3, extra_levels=1, coarse_offsets="resized")
    for one, sizes in ((config, (24, 48, 96)), (CONFIGS["glip"], (32, 64, 128, 256))):
        model = build(one)
        with torch.no_grad():
            output = model(model.see(torch.randn(1, 3, 128, 128)), _captions(THREE))
            boxes = model.find(model.see(torch.randn(1, 3, 128, 128)), _captions(THREE)).boxes_xyxy
        assert output.shapes == tuple((16 // 2**level,) * 2 for level in range(len(sizes)))
        anchors = model._anchors(output)
        sides = (anchors[:, 2] - anchors[:, 0] + 1).tolist()
        assert sorted(set(sides)) == list(sizes)
        assert len(boxes) == len(anchors)


def test_offsets_of_the_coarser_level_are_read_as_the_configuration_says() -> None:
    torch.manual_seed(3)
    ours, official = (build(replace(CONFIGS["glip"], coarse_offsets=how)) for how in ("resized", "prefix"))
    for value in ours.parameters():  # before training all offsets are nearly the same
        torch.nn.init.normal_(value, std=0.2)
    official.load_state_dict(ours.state_dict())
    with torch.no_grad():
        one, other = (model(model.see(_pixels()), _captions(THREE)).logits for model in (ours, official))
    assert (one - other).abs().max() > 1e-2
    assert build(CONFIGS["glip"])._sizes.coarse_offsets == "prefix"
