"""Compare two prediction files under a named protocol."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.files.queries import is_query_file, read_queries
from ovd_bench.benchmarks.data.text import unknown_name
from ovd_bench.benchmarks.scoring.score import described_file, evaluate_file
from ovd_bench.benchmarks.scoring.score_notes import check_fit, score_notes
from ovd_bench.benchmarks.store.prediction_source import Source, same_images
from ovd_bench.metrics.bootstrap import resample_weights
from ovd_bench.metrics.comparison import Comparison, compare, differences_of
from ovd_bench.metrics.departure import is_protocol, protocol_named
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.intervals import Estimate
from ovd_bench.metrics.protocol import PROTOCOLS
from ovd_bench.metrics.query_figures import evaluate_queries
from ovd_bench.metrics.types import GroundTruth

if TYPE_CHECKING:
    from ovd_bench.benchmarks.store.schema import ProtocolInfo


def compare_files(
    a: Path, b: Path, annotations: Path, protocol: str, *, resamples: int, seed: int, threads: int
) -> tuple[GroundTruth, Comparison, list[str]]:
    """Paired comparison of two prediction files: ground truth, result, notes.

    Raises:
        DataError: bad input; one line.
    """
    if not is_protocol(protocol):
        raise DataError(unknown_name(f"unknown protocol '{protocol}'", protocol, PROTOCOLS))
    sources = (Source.of(a), Source.of(b))
    same_images(*sources)
    asked = read_queries(annotations).queries if is_query_file(annotations) else None
    everything = read_ground_truth(annotations) if asked is None else asked.truth
    check_fit(everything, protocol_named(protocol))
    runs, notes = [], [*_about_protocols(*sources), *_about_pixels(*sources)]
    answers: list[dict[str, Estimate]] = []
    for name, source in zip("AB", sources, strict=True):
        gt, coverage = source.covered(everything, annotations)
        predictions = source.read(gt, threads=threads)
        run = evaluate_file(source.path, gt, predictions, protocol, threads=threads, keep_records=True)
        runs.append(run)
        notes += [f"{name}: {line}" for line in [*coverage, *predictions.notes, *score_notes(gt, predictions, run)]]
        if asked is not None:
            queries = asked if gt is everything else asked.of_images(gt.image_ids)
            answers.append(
                evaluate_queries(queries, predictions).estimates(resample_weights(gt.num_images, resamples, seed))
            )
    comparison = compare(gt, runs[0], runs[1], resamples=resamples, seed=seed)
    if answers:
        extra = differences_of(answers[0], answers[1])
        comparison = dataclasses.replace(comparison, differences=comparison.differences | extra)
    return gt, comparison, notes


def _about_protocols(a: Source, b: Source) -> list[str]:
    """Differences between two runs besides the detector."""
    if a.manifest is None or b.manifest is None:
        return []
    protocols = (a.manifest.protocol, b.manifest.protocol)
    if protocols[0].sha256 == protocols[1].sha256:
        return []
    ours, theirs = map(_facts, protocols)
    apart = ", ".join(f"{name} {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name])
    return [f"warning: A and B were made under different protocols: {apart or 'their prompt plans'}"]


def _facts(protocol: ProtocolInfo) -> dict[str, object]:
    """Short description of a protocol with its versions; None for runs from before versions were recorded."""
    hashes = {**(protocol.lookups or {}), "class names": protocol.tables}
    return (
        protocol.model_dump(exclude={"sha256", "plan", "versions", "lookups", "tables", "judge"})
        | {"plan": protocol.plan.name, "judge": protocol.judge and protocol.judge.name}
        | {f"version of {name}": (protocol.versions or {}).get(name) for name in ("cleaning", "selection", "scorer")}
        | {f"table {name}": (hashes.get(name) or "")[:8] or None for name in ("closed-set", "lexicon", "class names")}
    )


def _about_pixels(a: Source, b: Source) -> list[str]:
    """Whether two runs saw the same images."""
    if a.manifest is None or b.manifest is None:
        return []
    from ovd_bench.benchmarks.store.manifest import pixels_of, read_records

    ours = pixels_of(read_records(a.path, a.manifest))
    theirs = pixels_of(read_records(b.path, b.manifest))
    if ours is None or theirs is None:
        names = " and ".join(name for name, one in (("A", ours), ("B", theirs)) if one is None)
        return [f"{names}: made before pixels were hashed; it is not known whether A and B saw the same pixels"]
    shared = ours.keys() & theirs.keys()
    if not (other := sum(ours[image] != theirs[image] for image in shared)):
        return []
    return [
        f"warning: A and B were made from different pixels in {other:,} of {len(shared):,} images: "
        "they were encoded, resized or decoded differently"
    ]


def comparison_json(
    comparison: Comparison, protocol: str, files: tuple[Path, Path], notes: list[str]
) -> dict[str, Any]:
    """One JSON object of a comparison; undefined numbers are null."""
    classes = comparison.classes
    return {
        "protocol": protocol,
        "a": described_file(files[0]),
        "b": described_file(files[1]),
        "bootstrap": {"resamples": comparison.resamples, "seed": comparison.seed},
        "differences": {name: dataclasses.asdict(value) for name, value in comparison.differences.items()},
        "classes": {name: getattr(classes, name) for name in ("wins", "losses", "ties", "sure_wins", "sure_losses")},
        "notes": notes,
    }
