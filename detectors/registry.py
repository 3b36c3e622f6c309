"""The available detectors, and how one is loaded. Listing detectors imports no framework."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import cast

from ovd_bench.detectors.availability import is_path, what_is_missing
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.cards.clip_region import CARDS as CLIP_REGION
from ovd_bench.detectors.cards.closed_set import CARDS as CLOSED_SET
from ovd_bench.detectors.cards.controlled import CARDS as CONTROLLED
from ovd_bench.detectors.cards.dino import CARDS as DINO
from ovd_bench.detectors.cards.glip import CARDS as GLIP
from ovd_bench.detectors.cards.grounding_dino import CARDS as GROUNDING_DINO
from ovd_bench.detectors.cards.nano import CARDS as NANO
from ovd_bench.detectors.cards.omdet_turbo import CARDS as OMDET_TURBO
from ovd_bench.detectors.cards.owl import CARDS as OWL
from ovd_bench.detectors.extras import missing_package
from ovd_bench.detectors.interface import Detector, DetectorSettings
from ovd_bench.detectors.near_names import unknown_name
from ovd_bench.detectors.third_party import checked_card, third_party
from ovd_bench.detectors.types import DetectorError

#: ``load(card, settings)``: type of a card's ``loader``, and of a class or function of a third party.
Loader = Callable[[DetectorCard, DetectorSettings], Detector]

#: Entry point group under which an installed package offers detector cards.
ENTRY_POINTS = "ovd_bench.detectors"

#: Loaders whose detectors accept ``DetectorSettings.nms_iou``. Some of the others have their own suppression.
SUPPRESSING = (
    "ovd_bench.detectors.contestants:load",
    "ovd_bench.detectors.grounding_dino:load",
    "ovd_bench.detectors.owl_nano:load",
)

#: Loaders that read training checkpoints (``.pth``), of which ``DetectorSettings.weights_key`` chooses an entry.
READS_CHECKPOINTS = (
    "ovd_bench.detectors.dino:load",
    "ovd_bench.detectors.glip:load",
    "ovd_bench.detectors.grounding_dino:load",
)

BUILT_IN: dict[str, DetectorCard] = {
    card.name: card
    for card in (*NANO, *CONTROLLED, *OWL, *GROUNDING_DINO, *OMDET_TURBO, *GLIP, *CLOSED_SET, *DINO, *CLIP_REGION)
}


def _refuse(problem: str) -> None:
    raise DetectorError(problem)


def detector_cards(broken: Callable[[str], None] = _refuse) -> dict[str, DetectorCard]:
    """Cards by name: the suite's own, then those of installed packages.

    Args:
        broken: gets one line for each package that offers something unusable; the others still count.

    Raises:
        DetectorError: a package offers something that does not import, that is no card, or a name that is taken.
    """
    cards = dict(BUILT_IN)
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        what = f"entry point '{entry.name}' = '{entry.value}'"
        try:
            with third_party(what):
                offered = entry.load()
            card = checked_card(offered, what)
            if card.name in cards:
                raise DetectorError(f"{what}: the name '{card.name}' is already in use")
        except DetectorError as error:
            broken(str(error))
        else:
            cards[card.name] = card
    return cards


def find_card(name: str) -> DetectorCard:
    """Card of a detector by name, or of ``path/to/file.py:Name``.

    ``Name`` in a file is a loader: a class or function ``Name(card, settings)`` that may carry its card, with an empty
    ``loader``, as an attribute ``card``.

    Raises:
        DetectorError: no such detector; the message says how to list them.
    """
    if _names_file(name):
        return _card_of_file(name)
    if name in BUILT_IN:  # no need to import what installed packages offer
        return BUILT_IN[name]
    unusable: list[str] = []
    cards = detector_cards(unusable.append)
    if name not in cards:
        others = "".join(f"; {problem}" for problem in unusable)
        otherwise = "'bench list' shows them; your own is path/to/file.py:Name"
        raise DetectorError(unknown_name(f"no detector '{name}'", name, cards, otherwise) + others)
    return cards[name]


def check_detector(name: str, weights: str | None = None, nms_iou: float | None = None) -> None:
    """Refuse a detector that cannot be loaded here, as far as that is known without loading it.

    Args:
        name: see ``find_card``.
        weights: see ``DetectorSettings``.
        nms_iou: see ``DetectorSettings``.

    Raises:
        DetectorError: unknown name, missing package, no weights named or none at that path, an unsupported ``nms_iou``.
    """
    if _names_file(name):
        file = Path(name.rpartition(":")[0])
        if not file.is_file():
            raise DetectorError(f"{file}: no such Python file")
        return  # its code runs only in the process of the detector
    card = find_card(name)
    _check_suppression(card, nms_iou)
    if name not in BUILT_IN:
        return  # others say themselves what they need
    lacking = what_is_missing(dataclasses.replace(card, weights=weights or card.weights))
    if lacking.startswith("package "):
        error = ModuleNotFoundError(name=lacking.removeprefix("package "))
        raise DetectorError(f"detector '{name}' {missing_package(error)}")
    if lacking == "--weights":
        raise DetectorError(f"detector '{name}' names no weights: give --weights FILE, see {card.url}")
    if weights is not None and is_path(weights) and not Path(weights).exists():
        raise DetectorError(f"{weights}: no such file or folder of weights")


def _check_suppression(card: DetectorCard, nms_iou: float | None) -> None:
    if nms_iou is not None and card.loader not in SUPPRESSING:
        able = ", ".join(one.name for one in BUILT_IN.values() if one.loader in SUPPRESSING)
        raise DetectorError(f"detector '{card.name}' does not support nms_iou: these do: {able}")


def load_detector(name: str, settings: DetectorSettings) -> Detector:
    """Load a detector.

    Raises:
        DetectorError: unknown name, missing package, weights that do not load, or an unsupported ``nms_iou`` or
            ``weights_key``.
    """
    card = find_card(name)
    _check_suppression(card, settings.nms_iou)
    if settings.weights_key is not None and card.loader not in READS_CHECKPOINTS:
        able = ", ".join(one.name for one in BUILT_IN.values() if one.loader in READS_CHECKPOINTS)
        raise DetectorError(f"detector '{card.name}' reads no training checkpoint, so it has no key: these do: {able}")
    try:
        if card.name in BUILT_IN and not _names_file(name):
            detector = _loader(card)(card, settings)
            fits = isinstance(detector, Detector)
        else:
            with third_party(f"detector '{name}'"):
                detector = _loader(card)(card, settings)
                fits = isinstance(detector, Detector)
    except ModuleNotFoundError as error:
        lacking = missing_package(error) or f"needs the package '{error.name}', which is not installed"
        raise DetectorError(f"detector '{card.name}' {lacking}") from error
    if not fits:
        raise DetectorError(
            f"detector '{name}': {card.loader} returned no detector: expected card, set_vocabulary and detect"
        )
    return detector


def _names_file(name: str) -> bool:
    return ".py:" in name


def _card_of_file(name: str) -> DetectorCard:
    file, _, attribute = name.rpartition(":")
    path = Path(file).resolve()
    module = _module_of_file(path)
    with third_party(f"detector '{name}'"):
        target = _attribute(module, attribute, name)
        card = getattr(target, "card", None)
    if not callable(target):
        raise DetectorError(f"detector '{name}': cannot be called as {attribute}(card, settings)")
    if not isinstance(card, DetectorCard):
        card = DetectorCard(attribute, family=attribute, framework="numpy", loader="")
    return dataclasses.replace(checked_card(card, f"detector '{name}'"), loader=f"{path}:{attribute}")


def _loader(card: DetectorCard) -> Loader:
    module_name, _, attribute = card.loader.rpartition(":")
    in_file = module_name.endswith(".py")
    module = _module_of_file(Path(module_name)) if in_file else importlib.import_module(module_name)
    return cast(Loader, _attribute(module, attribute, card.loader))


@cache
def _module_of_file(path: Path) -> ModuleType:
    """The module in a file of the user, which is trusted like any program that the user runs."""
    name = f"ovd_bench_detector_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise DetectorError(f"{path}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look modules up by name
    with third_party(str(path)):
        spec.loader.exec_module(module)
    return module


def _attribute(module: ModuleType, attribute: str, name: str) -> object:
    if not hasattr(module, attribute):
        raise DetectorError(f"detector '{name}': there is no '{attribute}' in {module.__file__}")
    return cast(object, getattr(module, attribute))
