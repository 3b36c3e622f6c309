"""Shapes, windows, and independence of the classes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ovd_bench.baselines.owl_nano.backbone import NanoSwin, WindowAttention
from ovd_bench.baselines.owl_nano.config import OwlNanoConfig
from ovd_bench.baselines.owl_nano.model import OwlNano, cell_boxes, normalize
from ovd_bench.tests.baselines.nano import TINY


def _model(config: OwlNanoConfig = TINY) -> OwlNano:
    torch.manual_seed(0)
    model: OwlNano = OwlNano(config).eval()
    return model


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 32)])
def test_shapes(height: int, width: int) -> None:
    model = _model()
    images = normalize(torch.randint(0, 256, (2, height, width, 3), dtype=torch.uint8))
    grids = NanoSwin(TINY.widths, TINY.depths, TINY.window)(images)
    strides = zip((4, 8, 16), TINY.widths, strict=True)
    assert [tuple(grid.shape) for grid in grids] == [(2, height // s, width // s, c) for s, c in strides]
    output = model(images, model.queries(torch.randn(5, 12)))
    cells = height // 8 * width // 8
    assert output.logits.shape == (2, cells, 5)
    assert output.boxes_xyxy.shape == (2, cells, 4)
    assert output.quality is not None
    assert output.quality.shape == (2, cells)


def test_before_training_boxes_lie_on_their_cells_and_nothing_is_probable() -> None:
    model = _model()
    output = model(torch.randn(1, 32, 32, 3), torch.zeros(1, 8))  # a class that resembles nothing
    assert output.boxes_xyxy[0, 5].tolist() == [-4, -4, 28, 28]  # cell (1, 1): centre 12, four cells wide
    torch.testing.assert_close(output.logits.sigmoid(), torch.full((1, 16, 1), 0.01))


def test_a_class_scores_the_same_whatever_else_is_asked_for() -> None:
    model, phrases = _model(), torch.randn(6, 12)
    images = torch.randn(1, 32, 32, 3)
    alone = model(images, model.queries(phrases[2:3])).logits
    together = model(images, model.queries(phrases)).logits
    torch.testing.assert_close(alone[..., 0], together[..., 2], rtol=1e-6, atol=1e-6)


def test_the_mean_phrase_is_subtracted() -> None:
    model, phrases = _model(), torch.randn(3, 12)
    before = model.queries(phrases)
    model.text_mean.fill_(1.0)
    torch.testing.assert_close(model.queries(phrases + 1), before)


def test_learned_classes_need_no_text_and_know_no_other_class() -> None:
    model = _model(dataclasses.replace(TINY, classifier="learned", classes=4))
    assert model.queries(None).shape == (4, 8)
    assert not any("text_projection" in name for name, _ in model.named_parameters())
    with pytest.raises(ValueError, match="needs phrase vectors"):
        _model().queries(None)


def test_published_assignment_has_no_quality_branch() -> None:
    model = _model(dataclasses.replace(TINY, assignment="hungarian"))
    assert model(torch.randn(1, 32, 32, 3), model.queries(torch.randn(2, 12))).quality is None


@pytest.mark.parametrize("shifted", [False, True])
def test_tokens_see_their_window_and_nothing_else(shifted: bool) -> None:
    torch.manual_seed(1)
    attention, side, window = WindowAttention(8, 4, shifted), 12, 4
    tokens = torch.randn(1, side, side, 8, requires_grad=True)
    row, column = 1, 10  # with the shift: in the windows that begin at row -2 and column 10
    attention(tokens)[0, row, column].sum().backward()
    assert tokens.grad is not None
    seen = {(r, c) for r, c in tokens.grad[0].abs().sum(-1).nonzero().tolist()}
    shift = window // 2 if shifted else 0

    def members(at: int) -> list[int]:
        return [i for i in range(side) if (i + shift) // window == (at + shift) // window]

    assert seen == {(r, c) for r in members(row) for c in members(column)}


def test_one_window_is_not_shifted() -> None:
    torch.manual_seed(2)
    plain, shifted = WindowAttention(8, 4, False), WindowAttention(8, 4, True)
    shifted.load_state_dict(plain.state_dict())
    tokens = torch.randn(1, 4, 4, 8)
    torch.testing.assert_close(plain(tokens), shifted(tokens))


def test_box_of_a_cell() -> None:
    offsets = torch.zeros(1, 4, 4)
    offsets[0, 3] = torch.tensor([0.5, -1.0, torch.log(torch.tensor(2.0)), 0.0])
    assert cell_boxes(offsets, 2, 2)[0, 3].tolist() == pytest.approx([16 - 32, 4 - 16, 16 + 32, 4 + 16])


@pytest.mark.parametrize(
    "options",
    [{"classifier": "learned"}, {"classes": 3}, {"window": 0}, {"depths": (1, 10**9, 1)}, {"assignment": "none"}],
)
def test_impossible_configurations_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="owl-nano"):
        OwlNanoConfig(**options)  # type: ignore[arg-type]
