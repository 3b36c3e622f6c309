"""After a run as that of 'make bench', the commands of README and of the pages on runs work as they are written.

They are taken from the pages. Placeholders become what was just made, a run takes four images, and a detector that is
slow to load is replaced by a quick one.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from ovd_bench.benchmarks.cli.app import app
from ovd_bench.benchmarks.data.catalog.cards import CARDS
from ovd_bench.benchmarks.data.catalog.data_root import VARIABLE, default_data_root
from ovd_bench.benchmarks.data.catalog.registry import locate, render
from ovd_bench.tests.benchmarks.cli.test_examples import shown_in
from ovd_bench.tests.benchmarks.runner.toy import make_data

ROOT = Path(__file__).resolve().parents[3]
PAGES = ["README.md", *(f"docs/{name}.md" for name in ("adding-a-detector", "board", "running", "scoring", "data"))]
RUNS = "runs/bench"
QUICK = "examples/my_detector.py:ColourBlobs"

#: Words of the pages that stand for something of the reader's.
MEANT = {
    "RUN_A": "run-a",
    "RUN_B": "run-b",
    "RUN,RUN": "run-a,run-b",
    "a.json": "predictions.json",
    "b.json": "worse.json",
    "path/to/file.py:Name": QUICK,
    "-d NAME": "-d owl-nano",
    "NAME": "shapes",
    "DETECTOR": QUICK,
    "owl-nano,grounding-dino-nano -b shapes-phrases": f"owl-nano,{QUICK} -b shapes-phrases",
    "grounding-dino-tiny -b refcoco.jsonl": f"{QUICK} -b refcoco.jsonl",
    "grounding-dino-nano": "colour-blobs",
}
#: What is not tried here, and why.
LEFT_OUT = {
    r"^bench train ": "takes hours",
    r"^bench study ": "takes hours",
    r"^bench speed ": "takes minutes; tests/benchmarks/speed",
    r"lvis-minival.*(--device|--engine|--shard|instances_val)": "needs LVIS and other weights",
    r"/shared/": "needs a cluster",
    r"convert mdetr": "needs files of MDETR",
    r"(run|board|verify) .*odinw13": "needs the sets of ODinW; tests/benchmarks/runner/test_suite_run.py",
    r"convert (yolo|voc)-coco": "needs such folders; tests/benchmarks/data/instances",
    r"verify lvis-minival": "needs LVIS",
}


def commands() -> list[str]:
    """Commands of the pages as they are tried, each once."""
    found = [command for page in PAGES for command in shown_in(ROOT / page)]
    return list(dict.fromkeys(meant(one) for one in found if not any(re.search(left, one) for left in LEFT_OUT)))


def meant(command: str) -> str:
    """A command without placeholders."""
    for word, own in MEANT.items():
        command = re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", own, command)
    return command


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder: a checkout in which the run of 'make bench' has just ended."""
    folder, before = tmp_path_factory.mktemp("walk"), Path.cwd()
    data = default_data_root()
    if locate(CARDS["shapes"], data).annotations is None:
        data = tmp_path_factory.mktemp("data")
    render(CARDS["shapes"], data)
    truth = locate(CARDS["shapes"], data).annotations
    assert truth is not None
    (folder / "examples").symlink_to(ROOT / "examples")
    shutil.copytree(ROOT / "results", folder / "results", ignore=shutil.ignore_patterns("predictions"))
    for name in ("lvis_v1_val.json", "lvis_v1_train.json"):
        shutil.copy(truth, folder / name)
    (folder / "data" / "lvis").mkdir(parents=True)
    make_data(folder / "my_data", 3)
    Image.new("RGB", (120, 90), (200, 40, 40)).save(folder / "photo.jpg")
    make_refcoco(folder)
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(data))
        made = re.search(r"bench (run .*)\\\n\s+-d (.*)\\\n", (ROOT / "Makefile").read_text(encoding="utf-8"))
        assert made is not None
        detectors = ",".join(name for name in made[2].split(",") if name.strip() in ("owl-nano", QUICK))
        assert detectors.count(",") == 1
        walk(f"bench {made[1]} -d {detectors}")
        (a,), (b,) = (list(Path(RUNS).glob(f"shapes/*/{name}@*")) for name in ("owl-nano", "colour-blobs"))
        Path("run-a").symlink_to(a.resolve())
        Path("run-b").symlink_to(b.resolve())
        for run, file in ((a, "predictions.json"), (b, "worse.json")):
            walk(f"bench export {run} --to lvis -o {file}")
        yield folder
    os.chdir(before)


def make_refcoco(folder: Path) -> None:
    """Two expressions about one image in the form of MDETR's ``finetune_refcoco_val.json``."""
    place = folder / "data" / "coco" / "train2014"
    place.mkdir(parents=True)
    Image.new("RGB", (64, 48), (200, 40, 40)).save(place / "COCO_train2014_000000000009.jpg")
    image = {"file_name": "COCO_train2014_000000000009.jpg", "width": 64, "height": 48, "original_id": 9}
    captions = [
        image | {"id": number, "caption": text, "dataset_name": "refcoco"}
        for number, text in enumerate(("the red one on the left", "red one"))
    ]
    boxes = [
        {"id": number, "image_id": number, "bbox": [4.0, 4.0, 20.0, 30.0], "tokens_positive": [[0, 7]]}
        for number in range(2)
    ]
    document = {"images": captions, "annotations": boxes, "categories": [{"id": 1, "name": "object"}]}
    (folder / "finetune_refcoco_val.json").write_text(json.dumps(document), encoding="utf-8")


def walk(command: str) -> None:
    """Carry out a command; it ends without an error."""
    words = shlex.split(command)[1:]
    if words[0] == "run" and "--limit" not in words:
        words += ["--limit", "4"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (words, result.exception, result.output)


@pytest.mark.parametrize("command", commands())
def test_a_command_of_a_page_works(command: str, here: Path) -> None:
    walk(command)


def test_what_is_left_out_is_on_a_page() -> None:
    found = [command for page in PAGES for command in shown_in(ROOT / page)]
    assert [pattern for pattern in LEFT_OUT if not any(re.search(pattern, one) for one in found)] == []
    assert len(commands()) > 20
