"""DINO in Jittor against a second implementation in torch, with the same random weights in the official layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchvision.models import resnet50
from torchvision.ops import FrozenBatchNorm2d

from ovd_bench.grounding_dino_jt.dino.config import ResNetConfig
from ovd_bench.grounding_dino_jt.dino.load import load
from ovd_bench.grounding_dino_jt.dino.model import Dino
from ovd_bench.grounding_dino_jt.dino.resnet import ResNet
from ovd_bench.grounding_dino_jt.load import fill
from ovd_bench.grounding_dino_jt.query_selection import SelectedQueries
from ovd_bench.kernels.runtime import jittor
from ovd_bench.tests.grounding_dino_jt.dino.reference import Reference, ReferenceDino, pixels_of
from ovd_bench.tests.grounding_dino_jt.dino.small import CONFIGS, SMALL, drawn, official_state

jt = jittor()

#: Sizes of a batch by what is odd about it; all have more places than the 12 queries.
BATCHES: dict[str, list[tuple[int, int]]] = {
    "one": [(96, 128)],
    "odd sides": [(67, 101)],
    "wide": [(40, 210)],
    "padded": [(96, 72), (64, 128)],
}


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ReferenceDino, Dino]:
    """Both networks: one from the state dict, one from the file that holds it."""
    config = CONFIGS[request.param]
    state = official_state(drawn(config), config)
    path = tmp_path_factory.mktemp("dino") / "checkpoint.pth"
    torch.save({"model": state}, path)
    network = load(path).network
    assert network.config.backbone.out_stages == config.backbone.out_stages
    return ReferenceDino(state, config), network


def _near(ours: Any, theirs: torch.Tensor, tolerance: float) -> None:
    found, expected = ours.numpy(), theirs.numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("name", BATCHES)
def test_everything_agrees(pair: tuple[ReferenceDino, Dino], name: str) -> None:
    """Backbone, encoder, selection, then every decoder layer from the reference's boxes, then the whole."""
    reference, network = pair
    pixels, padding = pixels_of(BATCHES[name])
    theirs: Reference = reference(torch.from_numpy(pixels), torch.from_numpy(padding))
    with jt.no_grad():
        for ours, expected in zip(network.backbone[0](jt.array(pixels)), theirs.maps, strict=True):
            _near(ours.permute(0, 3, 1, 2), expected, 1e-5)
        image = network.encode_image(pixels, padding)
        seen = network.encode(image)
        _near(seen, theirs.memory, 1e-5)
        selection = network.select(seen, image)
        _same_boxes(selection.boxes.numpy(), theirs.start.numpy())
        decoded = network.decode(seen, SelectedQueries(jt.array(theirs.start.numpy())), image)
        for layer in range(network.config.dec_layers):
            output = network.output(decoded, layer)
            _near(output.pred_logits, theirs.logits[layer], 1e-4)
            _near(output.pred_boxes, theirs.boxes[layer], 1e-4)
        # A query's rank chooses a learned vector, and places that score alike may swap ranks between right
        # implementations: the whole is compared where the scores are apart, or the places are no places (padding,
        # borders), which all score the same and all start from the same box.
        best = theirs.scores.topk(network.config.num_queries, dim=1).values
        nowhere = (theirs.start[:, 1:] == 1).all(-1) & (theirs.start[:, :-1] == 1).all(-1)
        apart = best[:, :-1] - best[:, 1:] > 1e-5
        assert bool((apart | nowhere).all()), "draw other weights: these scores are too close"
        whole = network(image)
        _near(whole.pred_logits, theirs.logits[-1], 1e-4)
        _near(whole.pred_boxes, theirs.boxes[-1], 1e-4)


def _same_boxes(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_images_of_one_size_do_not_see_each_other() -> None:
    network = Dino(SMALL)
    fill(network, drawn(SMALL))
    pixels, _ = pixels_of([(80, 96), (80, 96)])
    with jt.no_grad():
        both = network(network.encode_image(pixels))
        for row in range(2):
            alone = network(network.encode_image(pixels[row : row + 1]))
            np.testing.assert_allclose(both.pred_logits.numpy()[row], alone.pred_logits.numpy()[0], atol=1e-5)
            np.testing.assert_allclose(both.pred_boxes.numpy()[row], alone.pred_boxes.numpy()[0], atol=1e-5)


def test_what_lies_under_padding_does_not_matter_to_the_transformer() -> None:
    """Padding leaks through the backbone and its GroupNorms, as officially; behind these it must not."""
    network = Dino(SMALL)
    fill(network, drawn(SMALL))
    pixels, padding = pixels_of([(96, 72), (64, 128)])
    outputs = []
    with jt.no_grad():
        image = network.encode_image(pixels, padding)
        for noise in (0.0, 3.0):
            changed = image.features + image.padding.float32().unsqueeze(-1) * noise
            output = network(type(image)(**{**vars(image), "features": changed}))
            outputs.append((output.pred_logits.numpy(), output.pred_boxes.numpy()))
    for first, second in zip(*outputs, strict=True):
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 96), (97, 33), (1, 70)])
def test_resnet50_is_torchvisions(size: tuple[int, int]) -> None:
    """At its real size; (1, 70) gives maps of a single row from the start."""
    torch.manual_seed(0)
    theirs = resnet50(norm_layer=FrozenBatchNorm2d)
    for name, buffer in theirs.named_buffers():
        buffer += torch.rand(buffer.shape) if name.endswith("var") else 0.1 * torch.randn(buffer.shape)
    del theirs.fc
    ours = ResNet(ResNetConfig(out_stages=(0, 1, 2, 3)))
    fill(ours, {f"body.{name}": value.numpy() for name, value in theirs.state_dict().items()})
    pixels, _ = pixels_of([size])
    with jt.no_grad(), torch.no_grad():
        maps = ours(jt.array(pixels))
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(torch.from_numpy(pixels)))))
        for found, stage in zip(maps, (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), strict=True):
            x = stage(x)
            _near(found.permute(0, 3, 1, 2), x, 1e-5)


def test_weights_sum_is_of_the_file(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "a.pth"
    torch.save({"model": official_state(drawn(SMALL), SMALL, "module.")}, path)
    assert load(path).weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
