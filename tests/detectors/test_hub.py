"""Weights from the hub: pinned states, what a download tells, and sums that a card expects."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

import ovd_bench.detectors.hub as hub
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.hub import model_folder
from ovd_bench.detectors.hub_names import HubName, commit_of
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.messages import listening, tell
from ovd_bench.detectors.owl import load
from ovd_bench.detectors.types import DetectorError
from ovd_bench.tests.detectors.tiny_models import write_owl

COMMIT, OTHER = "0123456789abcdef0123456789abcdef01234567", "f" * 40
CARD = DetectorCard("tiny", "owlvit", "torch", loader="", weights="owner/model", licence="Apache-2.0")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("owner/model", HubName("owner/model")),
        ("owner/model@v1.0", HubName("owner/model", "v1.0")),
        ("owner/model@refs/pr/3", HubName("owner/model", "refs/pr/3")),
        (f"owner/model@{COMMIT}", HubName("owner/model", COMMIT)),
        ("owner/model@", None),
        ("owner/model@../x", None),
        ("model", None),
        ("a/b/c", None),
        ("../model", None),
        ("package:weights/a.safetensors", None),
    ],
)
def test_names(source: str, expected: HubName | None) -> None:
    assert HubName.of(source) == expected
    assert expected is None or str(expected) == source


def test_only_commits_are_fixed() -> None:
    assert commit_of(f"owner/model@{COMMIT}") == COMMIT
    assert [commit_of(source) for source in ("owner/model@main", "owner/model", "/a/folder")] == [None] * 3


class Hub:
    """A hub with two states of a repository; files appear in the cache when they are fetched."""

    def __init__(self, cache: Path, write: Callable[[Path], object]) -> None:
        self.cache, self.write = cache, write
        self.refs = {None: COMMIT, "main": COMMIT, "v1": OTHER, COMMIT: COMMIT, OTHER: OTHER}
        self.asked: list[str | None] = []
        self.seconds = 0.0

    def download(
        self, repository: str, *, revision: str | None = None, local_files_only: bool = False, **_: Any
    ) -> str:
        assert repository == "owner/model"
        folder = self.cache / "models--owner--model" / "snapshots" / self.refs[revision]
        if not folder.is_dir():
            if local_files_only:
                raise LocalEntryNotFoundError("not in the cache")
            blobs = self.cache / "models--owner--model" / "blobs"
            blobs.mkdir(parents=True, exist_ok=True)
            (blobs / "part.incomplete").write_bytes(bytes(3_000_000))
            time.sleep(self.seconds)
            self.write(folder)
        if not local_files_only:
            self.asked.append(revision)
        return str(folder)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    def write(folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(folder.name.encode())

    found = Hub(tmp_path, write)
    monkeypatch.setattr(hub, "snapshot_download", found.download)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return found


@pytest.mark.parametrize(
    ("source", "commit"),
    [
        ("owner/model", COMMIT),
        ("owner/model@main", COMMIT),
        ("owner/model@v1", OTHER),
        (f"owner/model@{OTHER}", OTHER),
    ],
)
def test_the_resolved_commit_is_recorded(fake: Hub, source: str, commit: str) -> None:
    folder = model_folder(CARD, source)
    assert (folder.path.name, folder.source) == (commit, f"owner/model@{commit}")
    assert model_folder(CARD, source) == folder
    name = HubName.of(source)
    assert name is not None
    assert fake.asked == [name.revision]  # once: it is in the cache then
    assert model_folder(CARD, folder.source) == folder


def test_a_download_tells_what_it_fetches_its_progress_and_its_licence(
    fake: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hub, "_PROGRESS_SECONDS", 0.1)
    fake.seconds = 0.6
    lines: list[str] = []
    with listening(lines.append):
        folder = model_folder(CARD, "owner/model@v1")
    first, *progress, last = lines
    assert first == "fetching the weights owner/model@v1 of detector 'tiny' from the hub; licence: Apache-2.0"
    assert progress[0].startswith("fetching owner/model@v1: 3 MB so far, ")
    assert last == f"fetched owner/model@v1 into {folder.path}; licence: Apache-2.0"
    model_folder(CARD, "owner/model@v1")
    assert capsys.readouterr().err == ""  # from the cache without a word
    model_folder(dataclasses.replace(CARD, weights="owner/another"), "owner/model")
    assert "licence: see its page on the hub, owner/model" in capsys.readouterr().err
    tell("nobody listens")
    assert capsys.readouterr().err == "nobody listens\n"


def test_a_revision_that_is_not_there_is_one_line(fake: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(repository: str, **_: object) -> str:
        raise LocalEntryNotFoundError("no such revision\nand more lines")

    monkeypatch.setattr(hub, "snapshot_download", unreachable)
    with pytest.raises(DetectorError, match=r"'owner/model@v9' are not in .* \(no such revision\): give --weights DIR"):
        model_folder(CARD, "owner/model@v9")


def test_weights_that_a_card_expects(fake: Hub, tmp_path: Path) -> None:
    fake.write = lambda folder: write_owl(folder, 1)
    loaded = load(CARD, DetectorSettings()).card
    assert loaded.weights == f"owner/model@{COMMIT}"
    file = Path(model_folder(CARD, "owner/model").path) / "model.safetensors"
    assert loaded.weights_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    expecting = dataclasses.replace(CARD, weights_sha256=loaded.weights_sha256)
    assert load(expecting, DetectorSettings()).card == loaded
    other = dataclasses.replace(CARD, weights_sha256="0" * 64)
    with pytest.raises(DetectorError, match="the card of 'tiny' says 0000"):
        load(other, DetectorSettings())
    # weights of one's own are not those of the card
    assert load(other, DetectorSettings(weights="owner/model")).card.weights_sha256 == loaded.weights_sha256
