"""Opens the data of a training on captions, for any model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ovd_bench.benchmarks.data.catalog.registry import open_benchmark
from ovd_bench.benchmarks.data.class_names import alike
from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.training.evaluation import SplitEvaluation
from ovd_bench.benchmarks.training.grounding.config import CaptionedTraining
from ovd_bench.benchmarks.training.grounding.loader import GroundingData
from ovd_bench.benchmarks.training.grounding.settings import GroundingSettings, SourceSettings
from ovd_bench.benchmarks.training.grounding.sources import Source, open_source
from ovd_bench.grounding_dino_jt.tokenizer import Tokenizer


@dataclass(frozen=True)
class OpenedData:
    """Data of a training.

    Attributes:
        sources: opened.
        settings: with resolved paths.
        evaluation: of the configuration's ``watch`` data set; None = none.
    """

    sources: Sequence[Source]
    settings: GroundingSettings
    evaluation: SplitEvaluation | None

    def batches(self, config: CaptionedTraining, tokenizer: Tokenizer) -> GroundingData:
        """The batches.

        Args:
            config: for size and seed.
            tokenizer: of the model's text encoder.

        Raises:
            DataError: see ``GroundingData``.
        """
        return GroundingData(self.sources, self.settings, tokenizer, batch=config.batch, seed=config.seed)

    def facts(self) -> dict[str, Any]:
        """The files, for the weights file."""
        paths = [Path(source.annotations) for source in self.settings.sources]
        return {"sources": [{"name": path.name, "sha256": file_sha256(path)} for path in paths]}


def open_data(config: CaptionedTraining, data_root: Path, console: Console | None) -> OpenedData:
    """Open the data; missing data is rendered first if possible.

    Args:
        config: of the training.
        data_root: folder of the data sets.
        console: for messages; None = no messages.

    Raises:
        DataError: data that is missing or bad.
    """
    benchmarks = {name: open_benchmark(name, data_root) for name in (*config.needs, *filter(None, [config.watch]))}
    settings = config.data.model_copy(update={"sources": tuple(_rooted(s, data_root) for s in config.data.sources)})
    if console:
        console.print(f"reading {len(settings.sources)} sources from {data_root}", highlight=False, markup=False)
    sources = [open_source(source) for source in settings.sources]
    for source in sources:
        if console and (same := alike([source.names[label] for label in np.unique(source.records.labels.values)])):
            console.print(f"warning: {source.records.path}: {same}", highlight=False, markup=False)
    evaluation = None
    if config.watch:
        watched = benchmarks[config.watch]
        evaluation = SplitEvaluation(watched.annotations, watched.images, watched.protocol)
    return OpenedData(sources, settings, evaluation)


def _rooted(source: SourceSettings, data_root: Path) -> SourceSettings:
    """Resolve relative paths below the folder of the data sets; absolute ones are unchanged."""
    places = {
        name: str(data_root / value)
        for name in ("annotations", "images", "label_map")
        if (value := getattr(source, name))
    }
    return source.model_copy(update=places)
