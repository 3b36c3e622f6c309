"""Pictures of a score: precision-recall curves, AP against training frequency."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import Evaluation
from ovd_bench.metrics.protocol import FREQUENCIES, RECALL_THRESHOLDS
from ovd_bench.metrics.types import GroundTruth

_FREQUENCY_NAMES = {"r": "rare", "c": "common", "f": "frequent"}
_FREQUENCY_COLORS = {"r": "#c2410c", "c": "#2563eb", "f": "#15803d"}


def write_plots(folder: Path, gt: GroundTruth, evaluation: Evaluation) -> list[Path]:
    """Write ``pr_curves.png`` and, if classes have training image counts, ``ap_vs_frequency.png``.

    Raises:
        DataError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot make the folder: {error.strerror}") from error
    figures = {"pr_curves.png": _precision_recall(gt, evaluation)}
    if np.any(gt.categories.image_count > 0):
        figures["ap_vs_frequency.png"] = _ap_against_frequency(gt, evaluation)
    paths = []
    for name, figure in figures.items():
        FigureCanvasAgg(figure)
        with atomic_write(folder / name) as file:
            figure.savefig(
                file, format="png", metadata={"Software": None}
            )  # without the version, so that the same data gives the same bytes
        paths.append(folder / name)
    return paths


def _precision_recall(gt: GroundTruth, evaluation: Evaluation) -> Figure:
    """Mean interpolated precision over classes at every recall: by IoU, and by frequency over all IoU."""
    plane = evaluation.matches.precision(area=0)
    defined = evaluation.matches.positives[:, 0] > 0
    groups = {
        letter: defined & (np.array(gt.categories.frequency) == letter)
        for letter in (FREQUENCIES if evaluation.protocol.federated else ())
    }
    groups = {letter: members for letter, members in groups.items() if members.any()}
    figure = Figure(figsize=(11 if groups else 5.6, 4.6), layout="constrained")
    axes = figure.subplots(1, 2 if groups else 1, squeeze=False, sharey=True)[0]
    thresholds = evaluation.protocol.iou_thresholds
    shades = np.linspace(0.15, 0.85, len(thresholds))
    for t, threshold in enumerate(thresholds):
        curve = plane[t][:, defined].mean(axis=1) if defined.any() else np.zeros(len(RECALL_THRESHOLDS))
        axes[0].plot(RECALL_THRESHOLDS, curve, color=colormaps["viridis"](shades[t]), label=f"{threshold:.2f}")
    axes[0].legend(title="IoU", fontsize=8, title_fontsize=8, ncols=2)
    axes[0].set_title(f"{int(defined.sum()):,} classes, by IoU threshold", fontsize=10)
    axes[0].set_ylabel("precision (mean over classes)")
    for letter, members in groups.items():
        curve = plane[:, :, members].mean(axis=(0, 2))
        ap = evaluation.metrics[f"AP{letter}"]
        label = f"{_FREQUENCY_NAMES[letter]}: {int(members.sum()):,} classes, AP {100 * (ap or 0):.1f}"
        axes[1].plot(RECALL_THRESHOLDS, curve, color=_FREQUENCY_COLORS[letter], label=label, linewidth=2)
        axes[1].set_title("IoU 0.50:0.95, by training frequency", fontsize=10)
        axes[1].legend(fontsize=8)
    for axis in axes:
        axis.set(xlabel="recall", xlim=(0, 1), ylim=(0, 1.02))
        axis.grid(alpha=0.25)
    return figure


def _ap_against_frequency(gt: GroundTruth, evaluation: Evaluation) -> Figure:
    counts = gt.categories.image_count
    known = (counts >= 0) & ~np.isnan(evaluation.per_class_ap)
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axis = figure.subplots()
    letters = np.array(gt.categories.frequency)
    for letter in FREQUENCIES if any(gt.categories.frequency) else ("",):
        members = known & (letters == letter)
        color = _FREQUENCY_COLORS.get(letter, "#2563eb")
        label = _FREQUENCY_NAMES.get(letter, "classes")
        axis.scatter(counts[members], 100 * evaluation.per_class_ap[members], s=9, alpha=0.45, color=color, label=label)
    edges = np.unique(np.round(np.quantile(counts[known], np.linspace(0, 1, 11)))) if known.any() else np.empty(0)
    middles, means = [], []
    for low, high in pairwise(edges):
        members = known & (counts >= low) & ((counts < high) | (high == edges[-1]))
        if members.any():
            middles.append(np.expm1(np.log1p(counts[members]).mean()))
            means.append(100 * evaluation.per_class_ap[members].mean())
    axis.plot(
        middles, means, color="black", linewidth=1.8, marker="o", markersize=4, label="mean of a tenth of the classes"
    )
    # Linear up to one image, so that classes without a training image have a place, and logarithmic from there on.
    axis.set_xscale("symlog", linthresh=1, linscale=0.5)
    axis.set(xlabel="training images of the class", ylabel="AP of the class", ylim=(-2, 102))
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8)
    return figure
