"""Checks that the arms of a study share everything that a controlled comparison must hold equal.

There are two checks: of the configurations, before the trainings, and of the hashes of its inputs that each training
wrote into its weights, afterwards. Only the second is a proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ovd_bench.benchmarks.data.text import printable

#: Keys of the training configurations that must be equal in all arms; a dot at the end = all keys with this prefix.
_SHARED = (
    "seed",
    "steps",
    "epochs",
    "batch",
    "needs",
    "data.",
    "model.weights",
    "model.backbone",
    "model.options.backbone.",
    "model.text_encoder",
)
#: Entries that each training writes into its weights, and their meaning.
PROOF = {
    "backbone_sha256": "first weights of the image backbone",
    "text_sha256": "weights of the text encoder",
    "phrase_frame": "how it reads a phrase",
    "text_mean_of_sha256": "phrases whose mean its output loses",
    "data_sha256": "images, captions and boxes of all batches, in their order",
    "steps": "optimisation steps",
    "samples": "images seen",
}


@dataclass(frozen=True)
class SeedManifest:
    """Inputs of the trainings of one seed.

    Attributes:
        seed: of these trainings.
        reference: values of the reference arm, by key of ``PROOF``.
        problems: differing or missing values of other arms, by key of ``PROOF``; one line each.
    """

    seed: int
    reference: dict[str, Any]
    problems: dict[str, tuple[str, ...]]

    @property
    def lines(self) -> list[str]:
        """All problems."""
        return [line for lines in self.problems.values() for line in lines]


def disagreements(settled: Mapping[str, Mapping[str, Any]], reference: str) -> list[str]:
    """Differences between the configurations of the arms that are not allowed, one line each.

    Args:
        settled: flat configuration of each arm, by name.
        reference: name of an arm.
    """
    keys = {key: None for config in settled.values() for key in config if _is_shared(key)}
    return [
        printable(f"{key} is {config.get(key)} in arm '{name}' and {settled[reference].get(key)} in '{reference}'")
        for name, config in settled.items()
        for key in keys
        if config.get(key) != settled[reference].get(key)
    ]


def seed_manifests(facts: Mapping[tuple[str, int], Mapping[str, Any]], reference: str) -> list[SeedManifest]:
    """Compare the recorded inputs of finished trainings, seed by seed.

    Args:
        facts: of each training, by arm and seed.
        reference: name of the reference arm.
    """
    found = []
    for seed in sorted({seed for _, seed in facts}):
        arms = {arm: values for (arm, number), values in facts.items() if number == seed}
        if reference not in arms:
            continue
        ours = {key: arms[reference].get(key) for key in PROOF}
        problems = {
            key: tuple(
                _problem(arm, seed, key, values.get(key), value, reference)
                for arm, values in arms.items()
                if values.get(key) is None or values[key] != value
            )
            for key, value in ours.items()
        }
        found.append(SeedManifest(seed, ours, {key: lines for key, lines in problems.items() if lines}))
    return found


def _is_shared(key: str) -> bool:
    return any(key.startswith(name) if name.endswith(".") else key == name for name in _SHARED)


def _problem(arm: str, seed: int, key: str, value: Any, expected: Any, reference: str) -> str:
    if value is None:
        return f"{arm}, seed {seed}: its weights do not say {key} ({PROOF[key]})"
    line = f"{arm}, seed {seed}: {key} ({PROOF[key]}) is {_short(value)}, that of {reference} is {_short(expected)}"
    return printable(line)


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else str(value)
