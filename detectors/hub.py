"""Files of a model: a local folder, or a snapshot of a repository of the Hugging Face hub."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.hub_names import HubName, is_commit
from ovd_bench.detectors.messages import tell
from ovd_bench.detectors.types import DetectorError

_SAFETENSORS = "model*.safetensors"
_BIN = "pytorch_model*.bin"
_TEXT_FILES = ("*.json", "*.txt")
#: Seconds between two lines on a download.
_PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class ModelFolder:
    """Where the files of a model are.

    Attributes:
        path: of the folder.
        source: of the files; of the hub with the commit, ``owner/name@commit``.
    """

    path: Path
    source: str


def model_folder(card: DetectorCard, source: str) -> ModelFolder:
    """Folder of a model: a local folder, or a snapshot of a hub repository.

    Args:
        card: of its detector.
        source: path of a directory, or hub id, or ``owner/name@revision``; files in the hub's local cache are not
            fetched again.

    Raises:
        DetectorError: neither, or the repository cannot be fetched.
    """
    if not source:
        raise DetectorError(f"detector '{card.name}' names no weights: give --weights DIR")
    path = Path(source)
    if path.is_dir():
        return ModelFolder(path, source)
    name = None if path.exists() or path.is_absolute() or source.startswith(".") else HubName.of(source)
    if name is None:
        raise DetectorError(
            f"{source}: is neither a directory nor a hub id: expected a folder with config.json and weights"
        )
    snapshot = _from_hub(card, name)
    pinned = HubName(name.repository, snapshot.name) if is_commit(snapshot.name) else name
    return ModelFolder(snapshot, str(pinned))


def _from_hub(card: DetectorCard, name: HubName) -> Path:
    """The requested snapshot of a hub repository; files in the local cache are not fetched again."""
    with contextlib.suppress(LocalEntryNotFoundError, HFValidationError, DetectorError):
        cached = Path(snapshot_download(name.repository, revision=name.revision, local_files_only=True))
        weight_files(cached)
        return cached
    known = HubName.of(card.weights)
    licence = card.licence if known is not None and known.repository == name.repository else ""
    terms = f"licence: {licence}" if licence else f"licence: see its page on the hub, {name.repository}"
    tell(f"fetching the weights {name} of detector '{card.name}' from the hub; {terms}")
    try:
        with _no_bars(), _progress(name):
            patterns = [*_TEXT_FILES, _SAFETENSORS]
            directory = Path(snapshot_download(name.repository, revision=name.revision, allow_patterns=patterns))
            if not list(directory.glob(_SAFETENSORS)):
                snapshot_download(name.repository, revision=name.revision, allow_patterns=[_BIN])
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DetectorError(
            f"detector '{card.name}': the weights '{name}' are not in the hub's local cache and cannot be fetched "
            f"({reason}): give --weights DIR"
        ) from error
    tell(f"fetched {name} into {directory}; {terms}")
    return directory


@contextlib.contextmanager
def _progress(name: HubName) -> Iterator[None]:
    """A line on a download now and then. It looks at the cache, since the library's bars are for terminals only."""
    store = Path(constants.HF_HUB_CACHE) / f"models--{name.repository.replace('/', '--')}" / "blobs"
    before, started, done = _size(store), time.monotonic(), threading.Event()

    def watch() -> None:
        while not done.wait(_PROGRESS_SECONDS):
            fetched = max(_size(store) - before, 0) / 1e6
            rate = fetched / (time.monotonic() - started)
            tell(f"fetching {name}: {fetched:,.0f} MB so far, {rate:.1f} MB/s")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _size(folder: Path) -> int:
    """Bytes of the files in a folder, which may change meanwhile."""
    total = 0
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            with contextlib.suppress(OSError):
                total += file.stat().st_size
    return total


def weight_files(directory: Path) -> list[Path]:
    """Weight files of a folder, safetensors before pickles that torch wrote.

    Raises:
        DetectorError: there are none, or only those of an adapter.
    """
    names = sorted(file.name for file in directory.iterdir() if file.is_file())
    for pattern in (_SAFETENSORS, _BIN):
        if found := fnmatch.filter(names, pattern):
            return [directory / name for name in found]
    if "adapter_config.json" in names:
        raise DetectorError(f"{directory}: is a LoRA adapter, not a model: merge it into its base model and save that")
    raise DetectorError(f"{directory}: no weights: expected model.safetensors")


def weights_sha256(files: list[Path]) -> str:
    """Hash of a weight file; of several, the hash of the lines ``name hash``, sorted by name."""
    hashes = {}
    for file in files:
        with file.open("rb") as stream:
            hashes[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = "".join(f"{name} {value}\n" for name, value in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def keyed_sha256(sha256: str, key: str | None) -> str:
    """Identity of the weights under a key of a checkpoint: the hash of the line ``hash key``; without a key the hash.

    Two sets of weights in one file are two rows of a board.
    """
    return sha256 if key is None else hashlib.sha256(f"{sha256} {key}\n".encode()).hexdigest()


def keyed_notes(key: str | None) -> tuple[str, ...]:
    """A note for the card on the key that was given."""
    return () if key is None else (f"weights: entry '{key}' of the checkpoint",)


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """No progress bars; problems are raised as errors."""
    off = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not off:
            enable_progress_bars()
