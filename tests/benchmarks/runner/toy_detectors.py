"""Detectors in numpy for tests of the runner; loaded by path, as a user's detector is.

They are steered by the environment, since they run in worker processes.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import resource
import signal
import time
from collections.abc import Sequence

import numpy as np

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.class_vectors import ClassVectors
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary


class Plain:
    """Finds one-coloured boxes by a threshold per colour channel; a few noisy boxes that follow from the pixels."""

    card = DetectorCard("toy-plain", family="toy", framework="numpy", loader="")

    def __init__(self, card: DetectorCard, settings: DetectorSettings) -> None:
        self.card = card
        self.settings = settings
        self.vocabulary: Vocabulary | None = None
        self.seconds = float(os.environ.get("TOY_SECONDS", "0"))

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        self.vocabulary = vocabulary

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        time.sleep(self.seconds * len(images))
        return [self.one(image) for image in images]

    def one(self, image: Image) -> Detections:
        assert self.vocabulary is not None
        rows = []
        for category, name in zip(self.vocabulary.ids, self.vocabulary.names, strict=True):
            colour = np.array(
                {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}.get(name.split()[0], (0,) * 3)
            )
            y, x = np.nonzero((image.pixels == colour).all(axis=2))
            if len(x):
                off = len(x) % 3  # not perfect
                rows.append((x.min(), y.min(), x.max() + 1 + off, y.max() + 1, 0.5 + len(x) / 2000, category))
        noise = np.random.default_rng(int(image.pixels.astype(np.int64).sum()))
        for _ in range(3):
            x0, y0 = noise.random(2) * 10
            rows.append((x0, y0, x0 + 5, y0 + 5, noise.random() / 2, self.vocabulary.ids[0]))
        table = np.array(sorted(rows, key=lambda row: -row[4]))
        return Detections.of(image, table[:, :4], table[:, 4], table[:, 5])


class Noting(Plain):
    """Notes on its card what it thinks of the vocabulary."""

    card = DetectorCard("toy-noting", family="toy", framework="numpy", loader="", notes=("plain",))

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        super().set_vocabulary(vocabulary, plan)
        self.card = dataclasses.replace(Noting.card, notes=("plain", f"{len(vocabulary)} classes"))


class Blurred(Plain):
    """Reads all names nearly alike."""

    def class_vectors(self) -> ClassVectors:
        assert self.vocabulary is not None
        return {number: np.array([1, number / 1000], np.float32) for number in self.vocabulary.ids}


class Broken(Plain):
    """Goes wrong in the way that TOY_FAULT names, at the image ids in TOY_IMAGES."""

    card = DetectorCard("toy-broken", family="toy", framework="numpy", loader="")

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        fault = os.environ.get("TOY_FAULT", "")
        hit = {image.id for image in images} & {int(word) for word in os.environ.get("TOY_IMAGES", "").split()}
        found = super().detect(images)
        if fault == "memory" and len(images) > int(os.environ["TOY_FITS"]):
            raise MemoryError
        if not hit:
            return found
        if fault == "error":
            raise DetectorError("this image is not liked")
        if fault == "bug":
            return found[99]  # type: ignore[return-value]
        if fault == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "exit":
            ctypes.CDLL(None)._exit(7)  # as native code ends: unlike os._exit nothing can stop it
        if fault == "few":
            return found[:-1]
        if fault == "swapped":
            return found[::-1]
        if fault == "unasked":
            return [Detections.of(image, [[0, 0, 1, 1]], [0.5], [99]) for image in images]
        if fault == "many":
            return [Detections.of(image, [[0, 0, 1, 1]] * 301, [0.5] * 301, [1] * 301) for image in images]
        if fault == "print":
            print("a library's chatter on stdout")
        return found


class Unloadable(Plain):
    """Cannot be loaded."""

    card = DetectorCard("toy-unloadable", family="toy", framework="numpy", loader="")

    def __init__(self, card: DetectorCard, settings: DetectorSettings) -> None:
        raise DetectorError("the weights are not where they should be")


class SmallDisk(Plain):
    """From the first image on, this process can write no file longer than TOY_DISK bytes."""

    card = DetectorCard("toy-small-disk", family="toy", framework="numpy", loader="")

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        if os.environ.get("TOY_DISK"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["TOY_DISK"]), resource.RLIM_INFINITY))
        return super().detect(images)


class Idle(Plain):
    """One box per image, whatever it shows; sleeps TOY_SECONDS per image."""

    card = DetectorCard("toy-idle", family="toy", framework="numpy", loader="")

    def one(self, image: Image) -> Detections:
        return Detections.of(image, [[0, 0, 9, 9]], [0.5], [1])
