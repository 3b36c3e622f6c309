"""The protocol of a run: everything besides detector and data that a number depends on, and its hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ovd_bench.benchmarks.data.text import unknown_name
from ovd_bench.detectors.closed_set_synonyms import SYNONYMS
from ovd_bench.detectors.coco_classes import COCO_CLASSES
from ovd_bench.detectors.interface import SELECTION_VERSION
from ovd_bench.detectors.prompts import CLEANING_VERSION, PromptPlan
from ovd_bench.metrics.departure import is_protocol, protocol_named
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.lexicon import lexicon_sha256
from ovd_bench.metrics.protocol import PROTOCOLS, SCORER_VERSION

#: Vocabulary of a detector in an image: all categories, those present, those present or verified absent, or each of
#: these alone, as a question about the image.
VocabularyMode = Literal["full", "present", "verified", "queries"]

#: How a detector that grounds captions is asked about a phrase: it gets the annotated spans, or it reads the caption
#: itself and its boxes answer the phrases that their words overlap.
Reading = Literal["annotated", "own"]

#: (box, class) pairs that a detector returns per image, and per chunk of classes, by kind of AP. ``lvis`` and ``coco``
#: have 300 per image, as in the official Grounding DINO and OWL-ViT evaluations; fixed AP must not be limited per
#: image, and mmdetection keeps 300 per chunk of 40 classes for it. ``queries`` has boxes per question.
TOP_K: dict[str, tuple[int, int | None]] = {
    "lvis": (300, None),
    "lvis-fixed": (10_000, 300),
    "coco": (300, None),
    "queries": (100, None),
}


#: Characters of the kind of AP in the name of a folder.
_LONGEST = 60


def versions() -> dict[str, int]:
    """Semantics versions in the protocol; the comments at the constants state when to raise them."""
    return {"cleaning": CLEANING_VERSION, "selection": SELECTION_VERSION, "scorer": SCORER_VERSION}


def lookups() -> dict[str, str]:
    """Hashes of the suite's own tables of words: classes of closed-set detectors, and the lexicon for phrases."""
    closed = json.dumps([SYNONYMS, COCO_CLASSES])
    return {"closed-set": hashlib.sha256(closed.encode()).hexdigest(), "lexicon": lexicon_sha256()}


@dataclass(frozen=True)
class RunProtocol:
    """Settings that rows of one table must share besides the benchmark.

    Attributes:
        ap: kind of AP, a name that ``metrics.departure.protocol_named`` knows.
        plan: how names become text.
        vocabulary: categories that are queried in an image.
        image_size: shorter or square side of the network input, pixels; None = each model's own.
        top_k: pairs per image; boxes per question for queries.
        chunk_top_k: pairs per chunk of classes; None = ``top_k``.
        tables: sha256 of the benchmark's tables of class names; None = it has none.
        reading: of captions; only for queries.
    """

    ap: str
    plan: PromptPlan
    vocabulary: VocabularyMode
    image_size: int | None
    top_k: int
    chunk_top_k: int | None
    tables: str | None = None
    reading: Reading | None = None

    @staticmethod
    def of(
        ap: str,
        plan: PromptPlan,
        vocabulary: VocabularyMode = "full",
        image_size: int | None = None,
        top_k: int | None = None,
        tables: str | None = None,
        reading: Reading | None = None,
    ) -> RunProtocol:
        """A protocol with the default limits of its kind of AP; a custom ``top_k`` also removes the limit per chunk.

        Raises:
            DataError: an unknown kind of AP, a number below 1, or settings of queries for classes or the reverse.
        """
        if not is_protocol(ap):
            raise DataError(unknown_name(f"unknown protocol '{ap}'", ap, PROTOCOLS))
        if len({ap == "queries", vocabulary == "queries", reading is not None}) > 1:
            raise DataError(
                f"protocol '{ap}', vocabulary '{vocabulary}', reading '{reading}': a file of queries has the protocol "
                "and the vocabulary 'queries' and a reading, other data have none of them"
            )
        for name, value in (("image_size", image_size), ("top_k", top_k)):
            if value is not None and value < 1:
                raise DataError(f"protocol '{ap}': {name} is {value}, at least 1 is needed")
        if top_k is not None:
            return RunProtocol(ap, plan, vocabulary, image_size, top_k, None, tables, reading)
        usual, per_chunk = TOP_K[ap] if ap in TOP_K else TOP_K["coco"]
        most = max((usual, *protocol_named(ap).max_dets))  # a departure may count more than COCO does
        return RunProtocol(ap, plan, vocabulary, image_size, most, per_chunk, tables, reading)

    @property
    def sha256(self) -> str:
        """Hash of everything that affects the number; the plan's name does not."""
        content: dict[str, Any] = asdict(self) | {
            "plan": self.plan.sha256,
            "rules": protocol_named(self.ap).as_dict(),
            "versions": versions(),
            "lookups": lookups(),
        }
        if self.reading is None:
            del content["reading"]  # the hashes of runs on classes are older than queries
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def slug(self) -> str:
        """Folder name: kind of AP, prompt plan, and eight digits of the hash."""
        return f"{self.ap[:_LONGEST]}-{self.plan.name}-{self.sha256[:8]}"
