"""The detector of a run, loaded in this process."""

from __future__ import annotations

import dataclasses
import importlib.util
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovd_bench.benchmarks.data.images import image_file
from ovd_bench.benchmarks.runner.plan import RunPlan
from ovd_bench.benchmarks.runner.query_predictor import way_of_asking
from ovd_bench.benchmarks.store.describe import detector_info
from ovd_bench.benchmarks.store.schema import DetectorInfo
from ovd_bench.detectors.class_vectors import likeness_note, most_alike
from ovd_bench.detectors.interface import Detector, DetectorSettings, TextDetector
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.registry import find_card, load_detector
from ovd_bench.detectors.types import Vocabulary
from ovd_bench.metrics.errors import DataError


@dataclass(frozen=True)
class LoadedDetector:
    """A loaded detector.

    Attributes:
        detector: ready for a vocabulary.
        info: its card, under the name that the request gives it; if all images have the same vocabulary, also its notes
            on that vocabulary.
        device: where it runs.
    """

    detector: Detector
    info: DetectorInfo
    device: str

    @staticmethod
    def of(plan: RunPlan) -> LoadedDetector:
        """Load the detector of a run, after a check that at least one image exists.

        Raises:
            DataError: none of the images exists.
            DetectorError: the detector cannot be loaded, or refuses the prompt plan.
        """
        root, files = plan.benchmark.images, plan.run_images.files
        if not any(_is_there(root, file) for file in files):
            helps = "name their folder with --images"
            if plan.benchmark.match == "path":
                helps += ", or give --match basename to find them by base name"
            raise DataError(f"{root}: contains none of the {len(files):,} images: {helps}")
        request, protocol = plan.request, plan.protocol
        device = choose_device(request.device, find_card(request.detector).framework)
        seed_everything(request.seed)
        settings = DetectorSettings(
            weights=request.weights,
            weights_key=request.weights_key,
            device=device,
            dtype=request.dtype,
            image_size=protocol.image_size,
            top_k=protocol.top_k,
            chunk_top_k=protocol.chunk_top_k,
            chunk_batch=request.chunk_batch,
            nms_iou=request.nms_iou,
        )
        detector = load_detector(request.detector, settings)
        notes: tuple[str, ...] = ()
        if plan.run_images.subsets is None:
            vocabulary = protocol.plan.spoken(plan.run_images.vocabulary)
            detector.set_vocabulary(vocabulary, protocol.plan)
            notes = alike_names(detector, vocabulary, protocol.plan)
        elif protocol.reading is not None and (note := way_of_asking(detector, protocol.reading)):
            notes = (note,)
        name = request.detector_name or detector.card.name
        card = dataclasses.replace(detector.card, name=name, notes=(*detector.card.notes, *notes))
        return LoadedDetector(detector, detector_info(card, request.detector), device)


def alike_names(detector: Detector, vocabulary: Vocabulary, plan: PromptPlan) -> tuple[str, ...]:
    """A note on class names that the detector can hardly distinguish, without names that give the same text.

    Raises:
        DetectorError: a vector that is not finite.
    """
    if not isinstance(detector, TextDetector):
        return ()
    asked = {tuple(plan.fill(name)): number for number, name in zip(vocabulary.ids, vocabulary.names, strict=True)}
    vectors, names = detector.class_vectors(), dict(zip(vocabulary.ids, vocabulary.names, strict=True))
    note = likeness_note(most_alike({one: vectors[one] for one in asked.values() if one in vectors}, names))
    return (note,) if note else ()


def choose_device(device: str, framework: str) -> str:
    """The device that ``auto`` means on this machine for a framework; other values are returned unchanged."""
    if device != "auto":
        return device
    if framework == "torch":
        if importlib.util.find_spec("torch") is None:
            return "cpu"  # the loader of the detector says that it is missing
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda" if framework == "jittor" and Path("/dev/nvidiactl").exists() else "cpu"


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and, if it is loaded, torch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what a detector of others may draw from
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def _is_there(root: Path, file: str) -> bool:
    try:
        return image_file(root, file).is_file()
    except DataError:  # the name points out of the folder; this is reported when the image is read
        return False
