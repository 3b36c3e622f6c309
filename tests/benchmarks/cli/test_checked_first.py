"""Where results go, and which detector runs, is looked at before data are rendered, read or scored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import ovd_bench as ovd
from ovd_bench.benchmarks.cli.app import app
from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.output_paths import check_file, check_folder
from ovd_bench.detectors.registry import check_detector
from ovd_bench.detectors.types import DetectorError
from ovd_bench.metrics.errors import DataError

#: Parameters that name what a verb writes.
WRITTEN = {"output", "target", "per_class", "arrays", "plots", "raw"}
#: Verbs whose ``--out`` is where they look, not where they write.
READ_FROM_OUT = {"show", "report", "export", "score", "compare", "study show"}

#: Command lines whose output cannot be written, with the parameter that says so. ``FILE`` is a regular file, so nothing
#: can be below it; ``BAD`` is a file that no reader takes; ``DATA`` is where data would be rendered.
REFUSED = [
    ("out", "run -d owl-nano -b shapes --data-root DATA --out FILE/results"),
    ("out", "predict -d owl-nano -b shapes --data-root DATA --out FILE/results"),
    ("out", "train owl-nano --data-root DATA --out FILE/run"),
    ("out", "study run controlled --data-root DATA --out FILE/study"),
    ("out", "study report controlled --out FILE/study"),
    ("out", "speed -d owl-nano -b shapes --data-root DATA --out FILE/speed.json"),
    ("out", "board --write --out FILE"),
    ("output", "show BAD -b shapes --data-root DATA -o FILE/show.png"),
    ("output", "report BAD -o FILE/report.html"),
    ("output", "detect BAD -d owl-nano --prompt cat -o FILE/out.png"),
    ("output", "detect BAD -d owl-nano --prompt cat -o FILE/out"),
    ("raw", "detect BAD -d owl-nano --caption cat --raw FILE/out.npz"),
    ("per_class", "score BAD -b shapes --data-root DATA --per-class FILE/ap.csv"),
    ("arrays", "score BAD -b shapes --data-root DATA --arrays FILE/a.npz"),
    ("plots", "score BAD -b shapes --data-root DATA --plots FILE/plots"),
    ("per_class", "compare BAD BAD -b shapes --data-root DATA --per-class FILE/d.csv"),
    ("output", "judge -a BAD -o FILE/judge.npz"),
    ("output", "export BAD -b shapes --data-root DATA --to coco -o FILE/a.json"),
    ("output", "export BAD -b shapes --data-root DATA --to yolo -o FILE/yolo"),
    ("output", "data show shapes --data-root DATA -o FILE/sheet.png"),
    ("output", "data convert lvis-minival BAD -o FILE/a.json"),
    ("output", "data convert file-names BAD -o FILE/a.json"),
    ("output", "data convert subset BAD --ids BAD -o FILE/a.json"),
    ("output", "data convert mdetr BAD -o FILE/a.jsonl"),
    ("output", "data convert objects365-names BAD -o FILE/a.json"),
    ("output", "data convert yolo-coco BAD -o FILE/a.json"),
    ("output", "data convert voc-coco BAD -o FILE/a.json"),
    ("output", "data convert queries-odvg BAD -o FILE/a.jsonl"),
    ("output", "data convert refcoco-queries BAD -o FILE/a.jsonl"),
    ("output", "data convert flickr30k-queries BAD -o FILE/a.jsonl"),
    ("output", "data convert d3-queries BAD --tables BAD -o FILE/a.jsonl"),
    ("output", "data convert omnilabel-queries BAD -o FILE/a.jsonl"),
    ("output", "data convert saco-queries BAD -o FILE/a.jsonl"),
    ("output", "data convert coco-odvg BAD -o FILE/a.jsonl"),
    ("output", "data convert lvis-odvg BAD -o FILE/a.jsonl"),
    ("output", "data convert objects365-odvg BAD -o FILE/a.jsonl"),
    ("output", "data convert flickr30k-odvg BAD -o FILE/a.jsonl"),
    ("output", "data convert goldg-odvg BAD -o FILE/a.jsonl"),
    ("output", "data convert ogd-odvg BAD -o FILE/a.jsonl"),
    ("target", "convert-weights BAD FILE/a.safetensors"),
]


def verbs(command: Any, *names: str) -> Iterator[tuple[str, set[str]]]:
    """Names of all verbs with their parameters."""
    inner = getattr(command, "commands", {})
    for name, below in inner.items():
        yield from verbs(below, *names, name)
    if not inner:
        yield " ".join(names), {parameter.name for parameter in command.params}


def test_every_output_of_every_verb_is_in_the_list() -> None:
    expected = set()
    for verb, parameters in verbs(typer.main.get_command(app)):
        written = parameters & WRITTEN | (parameters & {"out"} if verb not in READ_FROM_OUT else set())
        expected |= {(verb, name) for name in written}
    words = [(name, line.split()) for name, line in REFUSED]
    known = {verb for verb, _ in verbs(typer.main.get_command(app))}
    listed = {(verb, name) for name, line in words for verb in known if line[: len(verb.split())] == verb.split()}
    assert listed == expected


def refused(line: str, folder: Path) -> str:
    """What a command says that is refused; it has left nothing behind."""
    (folder / "file").write_text("")
    (folder / "bad.json").write_text("{")
    places = {"FILE": folder / "file", "BAD": folder / "bad.json", "DATA": folder / "data"}
    for word, place in places.items():
        line = line.replace(word, str(place))
    result = CliRunner().invoke(app, line.split())
    assert isinstance(result.exception, DataError | DetectorError), result.output
    assert sorted(path.name for path in folder.iterdir()) == ["bad.json", "file"]
    return str(result.exception)


@pytest.mark.parametrize(("parameter", "line"), REFUSED)
def test_output_is_checked_first(parameter: str, line: str, tmp_path: Path) -> None:
    message = refused(line, tmp_path)
    assert message.startswith(f"{tmp_path / 'file'}"), message
    assert any(words in message for words in ("does not exist", "is not a folder", "no such folder")), message


@pytest.mark.parametrize("verb", ["run -d nonsense", "predict -d nonsense", "speed -d nonsense"])
def test_detector_is_checked_before_data_are_rendered(verb: str, tmp_path: Path) -> None:
    line = f"{verb} -b shapes --data-root DATA"
    (tmp_path / "out").mkdir()
    if verb.startswith("speed"):
        assert refused(line, tmp_path / "out").startswith("no detector 'nonsense'")
        return
    result = CliRunner().invoke(app, [*line.replace("DATA", str(tmp_path / "data")).split(), "--out", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: nonsense on shapes: no detector 'nonsense'" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_python_refuses_as_early(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="no detector 'nonsense'"):
        ovd.run("nonsense", "shapes", data_root=tmp_path / "data", out=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is not a folder"):
        ovd.run("owl-nano", "shapes", data_root=tmp_path / "data", out=tmp_path / "file")
    with pytest.raises(DataError, match="--metric srp needs --judge"):
        ovd.run("owl-nano", "shapes", data_root=tmp_path / "data", out=tmp_path, metrics=["srp"])
    with pytest.raises(DataError, match="not a similarity matrix"):
        ovd.run("owl-nano", "shapes", data_root=tmp_path / "data", out=tmp_path, judge=tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_detectors_that_cannot_run_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def message(*arguments: Any) -> str:
        with pytest.raises(DetectorError) as error:
            check_detector(*arguments)
        return str(error.value)

    check_detector("owl-nano")
    check_detector("owlv2-base-patch16", "google/another")
    assert message("owl-nano", str(tmp_path / "w.safetensors")).endswith("no such file or folder of weights")
    assert message("owlv2-base-patch16", "./here").startswith("./here: no such file")
    assert message("owlv2-base-patch16", None, 0.5).startswith("detector 'owlv2-base-patch16' does not support nms_iou")
    assert message("glip-tiny").startswith("detector 'glip-tiny' names no weights: give --weights FILE")
    assert message(f"{tmp_path}/mine.py:Mine") == f"{tmp_path}/mine.py: no such Python file"
    monkeypatch.setattr("ovd_bench.detectors.availability.find_spec", lambda name: None)
    assert message("owl-nano").endswith(
        "needs the package 'torch', which is not installed: pip install 'ovd-bench[torch]'"
    )


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    def message(check: Any, *arguments: Any) -> str:
        with pytest.raises(DataError) as error:
            check(*arguments)
        return str(error.value)

    check_folder(tmp_path / "a" / "b")
    check_file(tmp_path / "a.PNG", (".png",))
    assert list(tmp_path.iterdir()) == []
    assert "the folder /proc cannot be written to: " in message(check_folder, Path("/proc/results"))
    assert "the folder /proc cannot be written to: " in message(check_file, Path("/proc/a.csv"))
    assert message(check_file, tmp_path / "a.txt", (".png", ".jpg")).endswith("the file name must end in .png or .jpg")
    assert message(check_file, tmp_path) == f"{tmp_path}: is a folder: name a file"
    assert message(check_file, Path("/dev/null")) == "/dev/null: is not a regular file: name a file"
    with pytest.raises(DataError, match="not a regular file"), atomic_write(Path("/dev/null")):
        pass
