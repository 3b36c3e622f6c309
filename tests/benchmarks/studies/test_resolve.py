"""Study files: what they may contain, and the configurations of their arms."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from ovd_bench.benchmarks.studies.definition import find_study, read_study, shipped_studies
from ovd_bench.benchmarks.studies.resolve import ResolvedStudy, resolve
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.studies.conftest import STUDY


def _resolved(path: Path) -> ResolvedStudy:
    return resolve(read_study(path), path)


def _changed(study_file: Path, change: Any) -> Path:
    document = copy.deepcopy(STUDY)
    change(document)
    study_file.write_text(yaml.safe_dump(document))
    return study_file


def test_arms_differ_in_exactly_what_they_say(study_file: Path) -> None:
    resolved = _resolved(study_file)
    full, no_fusion, static = resolved.arms
    assert full.differences == {}
    assert no_fusion.differences == {"model.options.use_fusion": (False, True)}
    assert static.differences == {"model.options.query_selection": ("static", "language")}
    assert {one.config.resolved()["steps"] for one in resolved.arms} == {12}
    assert no_fusion.with_seed(7).seed == 7
    # options of the base that are not touched are still there
    assert no_fusion.config.model_dump()["model"]["options"]["fusion_drop_path"] == 0.0


def test_a_nested_option_keeps_its_neighbours(study_file: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["arms"][1]["changes"] = {
            "model.options.backbone.out_stages": [2],
            "model.options.num_feature_levels": 1,
        }

    arm = _resolved(_changed(study_file, change)).arms[1]
    assert arm.config.model_dump()["model"]["options"]["backbone"] == {"drop_path_rate": 0.0, "out_stages": [2]}
    assert arm.differences == {
        "model.options.backbone.out_stages": ([2], [1, 2]),
        "model.options.num_feature_levels": (1, 2),
    }


def _arm(changes: dict[str, Any]) -> Any:
    def change(document: dict[str, Any]) -> None:
        document["arms"][1]["changes"] = changes

    return change


def _top(**values: Any) -> Any:
    return lambda document: document.update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_arm({"model.options.use_fusin": False}), "arm 'no-fusion': model.options.use_fusin: no such key"),
        (_arm({"steps.more": 1}), "steps.more: no such key in the training configuration: 'steps' has no keys"),
        (_arm({"learning_rate": 1}), "learning_rate: no such key in the training configuration: it has trainer, seed"),
        (_arm({"model.options.use_fusion": True}), "model.options.use_fusion: is True already"),
        (_arm({"steps": 12}), "steps: is 12 already: this change has no effect"),
        (_arm({"denoising.queries": -1}), "arm 'no-fusion': denoising.queries: Input should be greater"),
        (_arm({"model.options.use_fusion": 3}), "use_fusion is 3, a bool is needed"),
        (_arm({"model.options.num_feature_levels": 1}), "num_feature_levels is 1, the backbone gives 2"),
        (_arm({}), "arms 'full' and 'no-fusion' are the same training"),
        (_arm({"seed": 3}), "seed and trainer cannot be changed"),
        (_top(shared={"steps": 8}), "shared: steps: is 8 already"),
        (_top(colour="red"), "colour: Extra inputs are not permitted: the keys are name, question, base"),
        (_top(reference="none"), "reference 'none' is not an arm: the arms are full, no-fusion, static"),
        (_top(seeds=[1, 1]), "seed '1' occurs twice"),
        (_top(seeds=[]), "seeds: Tuple should have at least 1 item"),
        (_top(published=None), "an arm has published numbers"),
        (_top(base="nowhere"), "base: no configuration 'nowhere'"),
        (lambda document: document["arms"].append(copy.deepcopy(document["arms"][0])), "arm 'full' occurs twice"),
        (
            lambda document: document["arms"][0].update(color=1),
            "color: Extra inputs are not permitted: the keys are na",
        ),
    ],
)
def test_mistakes_are_one_line(study_file: Path, change: Any, message: str) -> None:
    path = _changed(study_file, change)
    with pytest.raises(DataError) as caught:
        _resolved(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_shipped_studies_resolve_and_carry_the_name_of_their_file() -> None:
    assert shipped_studies()
    for path in shipped_studies():
        assert read_study(path).name == path.stem
        _resolved(path)
    with pytest.raises(DataError, match="no study 'nothing'"):
        find_study("nothing")


def test_the_ablation_covers_what_the_paper_ablates() -> None:
    resolved = _resolved(find_study("ablation-gdino"))
    published = {one.arm.name: one.arm.published.get("LVIS minival zero-shot") for one in resolved.arms}
    assert {name: value for name, value in published.items() if value is not None} == {
        "full": 16.1,
        "no-fusion": 13.1,
        "static-queries": 13.6,
        "no-text-cross-attention": 14.3,
        "word-prompt": 15.6,
    }
    assert len(resolved.study.seeds) >= 2
