"""What a run depends on besides its options: pixels, versions, tables, judge. Two states of them never mix."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from ovd_bench.benchmarks.board.collect import collect, of_runs
from ovd_bench.benchmarks.board.terminal import board_tables
from ovd_bench.benchmarks.board.text_formats import board_document
from ovd_bench.benchmarks.data.images import read_image
from ovd_bench.benchmarks.data.pixel_hashes import image_sha256, pixels_sha256
from ovd_bench.benchmarks.runner.plan import RunPlan
from ovd_bench.benchmarks.runner.score_run import ScoreOptions, score_run
from ovd_bench.benchmarks.store import describe, protocols
from ovd_bench.benchmarks.store.describe import scored_under
from ovd_bench.benchmarks.store.manifest import pixels_of, read_manifest, read_records
from ovd_bench.benchmarks.store.schema import JudgeInfo, Result, read_result
from ovd_bench.detectors.registry import _module_of_file, find_card
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.runner.toy import (
    DETECTORS,
    ROOT,
    artefacts,
    bench,
    detector,
    failures,
    folder_of,
    make,
    make_data,
)
from ovd_bench.tests.benchmarks.runner.toy import request as request_of

IMAGES = 12


@pytest.fixture
def gt(tmp_path: Path) -> Path:
    return make_data(tmp_path / "data", IMAGES)


def result_of(gt: Path, out: Path, **parts: Any) -> tuple[Path, Result]:
    """A whole run, scored."""
    asked = request_of(gt, out, **parts)
    folder = folder_of(make(asked))
    plan = RunPlan.of(asked)
    options = ScoreOptions(extra_metrics=["pool"], resamples=0, threads=1)
    return folder, score_run(folder, plan.benchmark, options, command="test", engine="local")[1]


def reencode(images: Path, quality: int = 70) -> None:
    """The same names and sizes, other pixels."""
    for path in images.iterdir():
        with PIL.Image.open(path) as image:
            image.load()
        image.save(path, "JPEG", quality=quality)


def test_the_hash_is_of_what_was_decoded_however_the_run_is_cut(gt: Path, tmp_path: Path) -> None:
    _, whole = result_of(gt, tmp_path / "a")
    _, cut = result_of(gt, tmp_path / "b", shards=5, batch=2)
    expected = {}
    for path in (gt.parent / "images").iterdir():
        with PIL.Image.open(path) as image:
            expected[int(path.stem)] = hashlib.sha256(f"{image.width}x{image.height} ".encode() + image.tobytes())
    assert whole.run.pixels_sha256 == pixels_sha256({key: digest.hexdigest() for key, digest in expected.items()})
    assert cut.run.pixels_sha256 == whole.run.pixels_sha256


def test_images_of_which_nothing_is_asked_are_left_out(gt: Path, tmp_path: Path) -> None:
    document = json.loads(gt.read_text())
    document["annotations"] = document["annotations"][1:]
    gt.write_text(json.dumps(document))
    folder, result = result_of(gt, tmp_path / "out", vocabulary="present")
    manifest = read_manifest(folder)
    pixels = pixels_of(read_records(folder, manifest))
    assert pixels is not None
    assert len(pixels) == IMAGES - 1
    assert result.run.pixels_sha256 == pixels_sha256(pixels)


def test_unreadable_images_change_the_hash(gt: Path, tmp_path: Path) -> None:
    _, before = result_of(gt, tmp_path / "a")
    next((gt.parent / "images").iterdir()).write_bytes(b"no image")
    _, after = result_of(gt, tmp_path / "b")
    assert len(after.run.images_failed) == 1
    assert after.run.pixels_sha256 != before.run.pixels_sha256


def test_reencoded_images_are_told_apart_by_board_and_compare(gt: Path, tmp_path: Path) -> None:
    first, ours = result_of(gt, tmp_path / "a")
    reencode(gt.parent / "images")
    second, theirs = result_of(gt, tmp_path / "b")
    assert ours.protocol.sha256 == theirs.protocol.sha256
    assert ours.benchmark == theirs.benchmark
    assert ours.run.pixels_sha256 != theirs.run.pixels_sha256
    (table,) = of_runs([(first, ours), (second, theirs)], resamples=5).tables
    (note,) = [note for note in table.notes if "different pixels" in note]
    for result in (ours, theirs):
        assert result.run.pixels_sha256 is not None
        assert result.run.pixels_sha256[:8] in note
    assert note in board_document(of_runs([(first, ours), (second, theirs)], resamples=5))["tables"][0]["notes"]
    compared = bench("compare", first, second, "--bootstrap", 5)
    assert f"different pixels in {IMAGES} of {IMAGES} images" in compared.stdout + compared.stderr


def test_the_same_images_are_not_remarked_upon(gt: Path, tmp_path: Path) -> None:
    runs = [result_of(gt, tmp_path / "a"), result_of(gt, tmp_path / "b", batch=2)]
    (table,) = of_runs(runs, resamples=5).tables
    assert not [note for note in table.notes if "pixels" in note or "versions" in note]
    compared = bench("compare", runs[0][0], runs[1][0], "--bootstrap", 5)
    assert compared.returncode == 0
    assert "pixels" not in compared.stdout + compared.stderr


def test_shards_of_two_states_of_the_images_never_meet(gt: Path, tmp_path: Path) -> None:
    asked = request_of(gt, tmp_path / "out", shards=3)
    folder = folder_of(make(asked, [0]))
    before = artefacts(folder)
    reencode(gt.parent / "images")
    for shards in ([1], None):
        (reason,) = failures(make(asked, shards))
        assert "images that decode to other pixels (probe " in reason
        assert "--overwrite always" in reason
        assert "\n" not in reason
    assert artefacts(folder) == before
    assert failures(make(asked.model_copy(update={"overwrite": "always"}))) == []
    assert read_manifest(folder).recipe.probe_sha256 != json.loads(before["manifest.json"])["recipe"]["probe_sha256"]


def test_a_whole_run_on_other_pixels_is_not_taken_for_done(gt: Path, tmp_path: Path) -> None:
    options = ("predict", "-d", detector(), "-b", gt, "--out", tmp_path / "out", "-q")
    assert bench(*options).returncode == 0
    assert bench(*options).returncode == 0
    reencode(gt.parent / "images")
    again = bench(*options)
    assert again.returncode != 0
    assert "images that decode to other pixels" in again.stderr


@pytest.mark.parametrize("field", ["adapter_version", "suppression_version"])
def test_shards_of_two_versions_never_meet(
    monkeypatch: pytest.MonkeyPatch, gt: Path, tmp_path: Path, field: str
) -> None:
    asked = request_of(gt, tmp_path / "out", shards=3)
    folder = folder_of(make(asked, [0]))
    before = artefacts(folder)
    plain = _module_of_file(DETECTORS.resolve()).Plain
    monkeypatch.setattr(plain, "card", dataclasses.replace(plain.card, **{field: 2}))
    (reason,) = failures(make(asked, [1]))
    assert f"{field} {1 if field == 'adapter_version' else None}, not 2" in reason
    assert "\n" not in reason
    assert artefacts(folder) == before
    remade = asked.model_copy(update={"overwrite": "always"})
    assert failures(make(remade)) == []
    _, result = result_of(gt, tmp_path / "out", shards=3)
    assert getattr(result.run, field) == 2


@pytest.mark.parametrize("name", ["CLEANING_VERSION", "SELECTION_VERSION", "SCORER_VERSION"])
def test_another_version_of_the_protocol_is_another_run(
    monkeypatch: pytest.MonkeyPatch, gt: Path, tmp_path: Path, name: str
) -> None:
    first, ours = result_of(gt, tmp_path / "out")
    monkeypatch.setattr(protocols, name, 2)
    second, theirs = result_of(gt, tmp_path / "out")
    assert first != second
    assert ours.protocol.versions == {"cleaning": 1, "selection": 1, "scorer": 1}
    assert theirs.protocol.versions == {**ours.protocol.versions, name.removesuffix("_VERSION").lower(): 2}
    assert len(collect(tmp_path / "out", resamples=5).tables) == 2


def test_a_run_is_not_scored_anew_by_another_scorer(monkeypatch: pytest.MonkeyPatch, gt: Path, tmp_path: Path) -> None:
    folder, result = result_of(gt, tmp_path / "out")
    monkeypatch.setattr(protocols, "SCORER_VERSION", 2)
    plan = RunPlan.of(request_of(gt, tmp_path / "out"))
    with pytest.raises(DataError, match="scorer is now 2, but the run was made with scorer 1: repeat") as caught:
        score_run(folder, plan.benchmark, ScoreOptions(resamples=0), command="test", engine="local")
    assert "\n" not in str(caught.value)
    assert read_result(folder / "result.json") == result


def test_tables_and_judge_are_protocol(monkeypatch: pytest.MonkeyPatch, gt: Path, tmp_path: Path) -> None:
    _, result = result_of(gt, tmp_path / "out")
    made, judge = result.protocol, JudgeInfo(name="minilm", sha256="1" * 64)
    assert scored_under(made, made.tables, None) == made
    others = [
        scored_under(made, "2" * 64, None),
        scored_under(made, made.tables, judge),
        scored_under(made, "2" * 64, judge),
        scored_under(made, made.tables, JudgeInfo(name="minilm", sha256="3" * 64)),
        scored_under(made, made.tables, JudgeInfo(name="other", sha256="1" * 64)),
    ]
    assert len({one.sha256 for one in (made, *others)}) == len(others) + 1
    assert [one.judge for one in others[:2]] == [None, judge]
    assert scored_under(made, made.tables, judge) == others[1]
    monkeypatch.setattr(describe, "lookups", lambda: {"closed-set": "4" * 64, "lexicon": "5" * 64})
    with pytest.raises(DataError, match="lexicon is now 55555555"):
        scored_under(made, made.tables, None)


def test_tables_of_the_command_line_make_a_table_of_its_own(gt: Path, tmp_path: Path) -> None:
    words = ("red thing", "green thing", "blue thing", "grey thing")
    (tmp_path / "tables.json").write_text(json.dumps({"supercategory": dict.fromkeys(words, "thing")}))
    folder, plain = result_of(gt, tmp_path / "out")
    shutil.copytree(folder, tmp_path / "copy" / "toy" / "x" / folder.name)
    copy = tmp_path / "copy" / "toy" / "x" / folder.name
    scored = bench("score", copy, "--save", "--bootstrap", 0, "-m", "ladder", "--tables", tmp_path / "tables.json")
    assert scored.returncode == 0, scored.stderr
    tabled = read_result(copy / "result.json")
    assert plain.protocol.tables is None
    assert tabled.protocol.tables is not None
    assert len(of_runs([(folder, plain), (copy, tabled)], resamples=0).tables) == 2


def test_runs_from_before_are_read_and_marked(gt: Path, tmp_path: Path) -> None:
    """Manifests, records and results without the new fields, as they were written before these existed."""
    folder, _ = result_of(gt, tmp_path / "out")
    predictions = folder / "predictions"
    manifest = json.loads((predictions / "manifest.json").read_text())
    del manifest["content_sha256"]
    for name in ("weights_revision", "weights_key", "adapter_version", "suppression_version", "probe_sha256"):
        del manifest["recipe"][name]
    for name in ("versions", "lookups", "tables", "judge"):
        manifest["protocol"].pop(name, None)
    recipe = {name: value for name, value in manifest["recipe"].items() if name not in ("chunk_batch", "nms_iou")}
    manifest["recipe_sha256"] = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    (predictions / "manifest.json").write_text(json.dumps(manifest))
    (record_path,) = predictions.glob("shard-*.json")
    record = json.loads(record_path.read_text())
    del record["pixels"]
    record_path.write_text(json.dumps(record | {"recipe_sha256": manifest["recipe_sha256"]}))
    plan = RunPlan.of(request_of(gt, tmp_path / "out"))
    result = score_run(folder, plan.benchmark, ScoreOptions(resamples=0), command="test", engine="local")[1]
    assert result == read_result(folder / "result.json")
    assert result.protocol.versions is None
    assert result.run.pixels_sha256 is None
    text = (folder / "result.json").read_text()
    assert not [name for name in ("versions", "lookups", "adapter_version", "pixels_sha256") if f'"{name}"' in text]
    (table,) = of_runs([(folder, result)], resamples=0).tables
    assert "made before versions of cleaning, selection and scorer were recorded" in table.notes[0]
    assert "made before pixels were hashed" in table.notes[1]
    assert board_tables(of_runs([(folder, result)], resamples=0)) is not None
    (reason,) = failures(make(request_of(gt, tmp_path / "out"), [0]))
    assert "adapter_version None, not 1" in reason
    assert "probe not kept" in reason


def test_key_and_commit_of_the_weights_are_part_of_the_recipe(gt: Path, tmp_path: Path) -> None:
    asked = request_of(gt, tmp_path / "out")
    plain = RunPlan.of(asked).recipe("toy", "0" * 64, "cpu", None)
    keyed = RunPlan.of(asked.model_copy(update={"weights_key": "ema_model"})).recipe("toy", "0" * 64, "cpu", None)
    assert plain.differences(keyed) == ["weights_key None, not ema_model"]
    first, second = (RunPlan.of(asked).recipe("toy", "0" * 64, "cpu", None, letter * 40) for letter in "ab")
    assert first.differences(second) == [f"weights_revision {'a' * 40}, not {'b' * 40}"]
    assert len({recipe.sha256 for recipe in (plain, keyed, first, second)}) == 4
    # a run from before the commit was kept is resumed, and a detector is not loaded to learn it
    assert plain.differences(first) == first.differences(plain) == []


def test_a_key_needs_weights(gt: Path) -> None:
    done = bench("run", "-d", "glip-tiny", "-b", gt, "--key", "ema_model")
    assert done.returncode != 0
    assert "--key ema_model needs --weights" in done.stderr


def test_compare_says_which_version_sets_two_runs_apart(
    monkeypatch: pytest.MonkeyPatch, gt: Path, tmp_path: Path
) -> None:
    first, _ = result_of(gt, tmp_path / "out")
    monkeypatch.setattr(protocols, "CLEANING_VERSION", 2)
    second, _ = result_of(gt, tmp_path / "out")
    compared = bench("compare", first, second, "--bootstrap", 5)
    assert "under different protocols: version of cleaning 1 and 2\n" in (compared.stdout + compared.stderr)


def test_results_of_the_repository_load_and_old_ones_are_marked() -> None:
    board = collect(ROOT / "results", resamples=0)
    assert board.problems == ()
    assert board.tables
    for table in board.tables:
        marked = any("made before versions" in note for note in table.notes)
        assert marked == (table.protocol.versions is None)


def test_the_hash_of_an_array_is_that_of_the_reader(gt: Path, tmp_path: Path) -> None:
    folder, _ = result_of(gt, tmp_path / "out")
    pixels = pixels_of(read_records(folder, read_manifest(folder)))
    assert pixels is not None
    for image, digest in pixels.items():
        assert image_sha256(read_image(image, gt.parent / "images" / f"{image}.png").pixels) == digest


def test_what_is_told_without_loading_the_detector(gt: Path, tmp_path: Path) -> None:
    """Whether a run is complete is told from the card; versions and pixels count there, too."""
    asked = request_of(gt, tmp_path / "out").model_copy(update={"detector": "owl-nano"})
    recipe = RunPlan.of(asked).recipe("owl-nano", "1" * 64, "cpu", 1)
    card = find_card("owl-nano")
    assert (recipe.adapter_version, recipe.suppression_version) == (card.adapter_version, card.suppression_version)
    assert recipe.differences(RunPlan.of(asked).recipe("owl-nano", "1" * 64, "cpu", 1)) == []
    reencode(gt.parent / "images")
    (difference,) = recipe.differences(RunPlan.of(asked).recipe("owl-nano", "1" * 64, "cpu", 1))
    assert difference.startswith("images that decode to other pixels")
