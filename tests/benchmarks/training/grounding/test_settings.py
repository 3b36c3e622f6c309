"""Settings: the defaults are the paper's recipe, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from ovd_bench.benchmarks.training.grounding.settings import GroundingSettings

SOURCES = [{"annotations": "a.jsonl", "images": "i", "label_map": "m.json"}]


def _settings(**changes: Any) -> GroundingSettings:
    return GroundingSettings.model_validate({"sources": SOURCES} | changes)


def test_the_values_given_are_the_recipe() -> None:
    settings = _settings()
    assert settings.sizes == (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    assert settings.longest == 1333
    assert settings.crop is not None
    assert settings.crop.model_dump() == {
        "probability": 0.5,
        "sizes": (400, 500, 600),
        "smallest": 384,
        "largest": 600,
    }
    assert (settings.max_tokens, settings.num_negatives, settings.full_sampling_probability) == (256, 85, 0.5)
    assert (settings.flip, settings.repeat_threshold) == (0.5, 0)


def test_yaml_lists_are_read_and_written_back() -> None:
    text = """
    sources: [{annotations: a, images: b, weight: 2}]
    sizes: [192]
    crop: {sizes: [200], smallest: 96, largest: 192}
    """
    settings = GroundingSettings.model_validate(yaml.safe_load(text))
    assert settings.sizes == (192,)
    assert settings.sources[0].weight == 2
    again = yaml.safe_load(yaml.safe_dump(settings.model_dump(mode="json")))
    assert GroundingSettings.model_validate(again) == settings


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"sources": []}, "sources", "at least 1"),
        ({"sources": [{"annotations": "a"}]}, "sources.0.images", "required"),
        ({"sources": [SOURCES[0] | {"weight": 0}]}, "sources.0.weight", "greater than 0"),
        ({"workers": -1}, "workers", "greater than"),
        ({"workers": "4"}, "workers", "integer"),
        ({"max_tokens": 257}, "max_tokens", "less than or equal to 256"),
        ({"num_negatives": -1}, "num_negatives", "greater than"),
        ({"flip": 1.5}, "flip", "less than or equal to 1"),
        ({"flip": float("nan")}, "flip", "."),
        ({"sizes": [800.5]}, "sizes.0", "integer"),
        ({"sizes": [2000]}, "", "the largest of sizes is 2000, more than longest, 1333"),
        ({"crop": {"smallest": 900}}, "crop", "smallest is 900, more than largest, 600"),
        ({"crop": {"sizes": []}}, "crop.sizes", "at least 1"),
        ({"colour": True}, "colour", "not permitted"),
    ],
)
def test_bad_values_are_named(changes: dict[str, Any], where: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        _settings(**changes)
    assert ".".join(map(str, caught.value.errors()[0]["loc"])) == where
