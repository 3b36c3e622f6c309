"""Score phrase grounding under a named protocol."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovd_bench.benchmarks.data.files.atomic import file_sha256

if TYPE_CHECKING:
    from ovd_bench.metrics.grounding import GroundingResult

#: Protocols of phrase grounding, which have other files.
GROUNDING = ("grounding-recall", "refcoco")


@dataclass(frozen=True)
class GroundingScore:
    """Phrase grounding result with its protocol and files."""

    protocol: str
    predictions: Path
    annotations: Path
    result: GroundingResult

    def as_json(self) -> dict[str, Any]:
        """One JSON object; undefined numbers are null."""
        return {
            "protocol": self.protocol,
            "metrics": self.result.metrics,
            "phrases": {"all": len(self.result.phrase_ids), "scored": int(self.result.scored.sum())},
            "annotations": {"file": str(self.annotations), "sha256": file_sha256(self.annotations)},
            "predictions": {"file": str(self.predictions), "sha256": file_sha256(self.predictions)},
            "notes": list(self.result.notes),
        }


def score_grounding(predictions: Path, annotations: Path, protocol: str) -> GroundingScore:
    """Recall@k of phrases (``grounding-recall``) or accuracy of referring expressions (``refcoco``).

    Annotations named ``.json`` are MDETR's documents, others the suite's own JSON Lines, see
    ``benchmarks.data.files.grounding``.

    Raises:
        DataError: bad input; one line.
    """
    from ovd_bench.benchmarks.data.files.grounding import (
        read_mdetr_expressions,
        read_mdetr_phrases,
        read_predictions,
        read_truth,
    )
    from ovd_bench.metrics.grounding import evaluate_grounding

    if annotations.suffix.lower() != ".json":
        read = read_truth
    else:
        read = read_mdetr_expressions if protocol == "refcoco" else read_mdetr_phrases
    result = evaluate_grounding(read(annotations), read_predictions(predictions))
    return GroundingScore(protocol, predictions, annotations, result)
