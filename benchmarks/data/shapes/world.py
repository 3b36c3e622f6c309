"""A world: its categories with frequencies, and the classes in every image of a split."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.shapes.attributes import (
    COLOURS,
    EXTRA_COLOURS,
    EXTRA_PATTERNS,
    EXTRA_SHAPES,
    PATTERNS,
    SHAPES,
    Attribute,
)

#: Raise it whenever pixels, class lists or annotations change for equal settings.
GENERATOR_VERSION = 2
#: LVIS: a class is rare up to 10 training images, common up to 100, else frequent.
RARE_MAX, COMMON_MAX = 10, 100
#: Percentage of images with 1 … 6 distinct classes; 4.3 on average.
_DISTINCT_SHARES = (0, 6, 18, 32, 29, 15)


@dataclass(frozen=True)
class Category:
    """One class of a world.

    Attributes:
        id: 1 … K in the alphabetical order of names.
        name: composition such as ``striped red star``.
        frequency: ``r``, ``c`` or ``f`` by ``image_count``.
        image_count: images of the training split that show it.
        synonyms: the name and its paraphrases, one word replaced in each.
        synset: unique, in the manner of WordNet.
        definition: a phrase.
        pattern, colour, shape: the words of the name.
        family: kind of shape.
    """

    id: int
    name: str
    frequency: str
    image_count: int
    synonyms: tuple[str, ...]
    synset: str
    definition: str
    pattern: str
    colour: str
    shape: str
    family: str


@dataclass(frozen=True)
class Split:
    """One split of a world.

    Attributes:
        name: ``train`` decides the frequencies.
        images: how many.
        uniform: share of the class slots that is distributed evenly over all classes; the rest follows the training
            frequency. Not used for ``train``.
    """

    name: str
    images: int
    uniform: float = 0.65


@dataclass(frozen=True)
class World:
    """All settings of pixels and annotations. Two equal worlds are the same benchmark.

    Attributes:
        name: key in ``WORLDS``.
        seed: seed of all random streams.
        patterns, colours, shapes: the words that names are composed of.
        frequent, common, rare: classes per frequency.
        unseen: number of rare classes without a training image.
        peak: training images of the most frequent class.
        split_list: the splits.
        negatives: verified negatives per image.
        image_size: side of the square images in pixels.
    """

    name: str
    seed: int
    patterns: tuple[Attribute, ...]
    colours: tuple[Attribute, ...]
    shapes: tuple[Attribute, ...]
    frequent: int
    common: int
    rare: int
    unseen: int
    peak: int
    split_list: tuple[Split, ...]
    negatives: int = 32
    image_size: int = 192

    @property
    def splits(self) -> dict[str, int]:
        """Images per split."""
        return {split.name: split.images for split in self.split_list}

    @cached_property
    def hash(self) -> str:
        """Hexadecimal sha256 of every setting and of the generator's version."""
        text = json.dumps({"version": GENERATOR_VERSION, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def categories(self) -> tuple[Category, ...]:
        """The classes by id; image counts are counted from the training deck."""
        by_word = {a.word: a for a in (*self.patterns, *self.colours, *self.shapes)}
        counts = np.zeros(len(self._compositions), np.int64)
        for classes in self.deck("train"):
            counts[list(classes)] += 1
        rows = []
        for index, words in enumerate(self._compositions):
            pattern, colour, shape = (by_word[word] for word in words)
            name, count = " ".join(words), int(counts[index])
            rows.append(
                Category(
                    id=index + 1,
                    name=name,
                    frequency="r" if count <= RARE_MAX else "c" if count <= COMMON_MAX else "f",
                    image_count=count,
                    synonyms=(
                        name,
                        *(f"{word} {colour.word} {shape.word}" for word in pattern.synonyms),
                        *(f"{pattern.word} {word} {shape.word}" for word in colour.synonyms),
                        *(f"{pattern.word} {colour.word} {word}" for word in shape.synonyms),
                    ),
                    synset=f"{name.replace(' ', '_')}.n.01",
                    definition=f"{colour.definition}, {pattern.definition}: {shape.definition}",
                    pattern=pattern.word,
                    colour=colour.word,
                    shape=shape.word,
                    family=shape.family,
                )
            )
        if Counter(row.frequency for row in rows) != {"f": self.frequent, "c": self.common, "r": self.rare}:
            raise AssertionError(f"{self.name}: the training deck does not have the requested frequencies")
        return tuple(rows)

    @cached_property
    def siblings(self) -> npt.NDArray[np.bool_]:
        """Pairs of classes that share two of their three words, bool (K, K)."""
        columns = (np.array(words) for words in zip(*self._compositions, strict=True))
        related: npt.NDArray[np.bool_] = sum((column[:, None] == column).astype(np.int8) for column in columns) == 2
        return related

    def deck(self, split: str) -> tuple[tuple[int, ...], ...]:
        """Distinct classes of every image of a split, as positions in ``categories``, in random order.

        The number of images per class is exact, so that frequencies are not random.

        Raises:
            KeyError: no such split.
        """
        if split not in self._decks:
            self._decks[split] = self._deal(split)
        return self._decks[split]

    @cached_property
    def _decks(self) -> dict[str, tuple[tuple[int, ...], ...]]:
        return {}

    def _deal(self, split: str) -> tuple[tuple[int, ...], ...]:
        images = self.splits[split]
        rng = self.rng("deck", split)
        quota = self._train_quota if split == "train" else self._evaluation_quota(split)
        wanted = _spread(int(quota.sum()), images, rng)
        members: list[list[int]] = [[] for _ in range(images)]
        free = wanted
        for index in np.argsort(-quota, kind="stable").tolist():
            # Images with more classes are drawn later.
            keys = np.where(free > 0, rng.integers(0, 1 << 40, images) // np.maximum(free, 1), 1 << 41)
            chosen = np.argsort(keys, kind="stable")[: quota[index]]
            if free[chosen].min(initial=1) < 1:
                raise AssertionError(f"{self.name}: split {split} has too few images for {quota[index]} of one class")
            free[chosen] -= 1
            for image in chosen.tolist():
                members[image].append(index)
        return tuple(tuple(rng.permutation(row).tolist()) for row in members)

    def rng(self, *key: str | int) -> np.random.Generator:
        """Random stream of this world for a key."""
        words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, *words])))

    @cached_property
    def _roles(self) -> tuple[tuple[tuple[str, str, str], ...], npt.NDArray[np.int64]]:
        """Compositions in alphabetical order and the training images of each."""
        everything = [(p.word, c.word, s.word) for p, c, s in product(self.patterns, self.colours, self.shapes)]
        total = self.frequent + self.common + self.rare
        words = {word for composition in everything for word in composition}
        rng = self.rng("vocabulary")
        while True:
            drawn = [everything[i] for i in rng.permutation(len(everything))[:total].tolist()]
            uses = dict.fromkeys(words, 0)
            for composition in drawn[: self.frequent]:
                for word in composition:
                    uses[word] += 1
            if min(uses.values()) >= 2:
                break
        counts = _train_counts(self.frequent, self.common, self.rare, self.unseen, self.peak)
        order = sorted(range(total), key=lambda i: " ".join(drawn[i]))
        return tuple(drawn[i] for i in order), np.array([counts[i] for i in order], np.int64)

    @property
    def _compositions(self) -> tuple[tuple[str, str, str], ...]:
        return self._roles[0]

    @property
    def _train_quota(self) -> npt.NDArray[np.int64]:
        return self._roles[1]

    def _evaluation_quota(self, split: str) -> npt.NDArray[np.int64]:
        """Images per class of a split that is not for training."""
        spec = next(s for s in self.split_list if s.name == split)
        slots, train = _slots(spec.images), self._train_quota
        per_mille = round(1000 * spec.uniform)
        quota: npt.NDArray[np.int64] = slots * per_mille // (1000 * len(train)) + train * slots * (
            1000 - per_mille
        ) // (1000 * train.sum())
        # The remainder of rounding goes to the classes with the fewest images.
        short = slots - int(quota.sum())
        np.add.at(quota, np.resize(np.argsort(quota, kind="stable"), short), 1)
        return quota


def _train_counts(frequent: int, common: int, rare: int, unseen: int, peak: int) -> list[int]:
    """Training images per class, frequent classes first: a power law, a geometric row, and a few singles."""
    counts = [max(COMMON_MAX + 15, round(peak * math.pow(i + 1, -0.55))) for i in range(frequent)]
    counts += [round(95 * math.pow(12 / 95, i / max(common - 1, 1))) for i in range(common)]
    seen = rare - unseen
    counts += [round(8 * math.pow(1 / 8, i / max(seen - 1, 1))) for i in range(seen)]
    return counts + [0] * unseen


def _slots(images: int) -> int:
    """Image-class pairs of a split that is not for training."""
    shares = sum(_DISTINCT_SHARES)
    return images * sum((i + 1) * share for i, share in enumerate(_DISTINCT_SHARES)) // shares


def _spread(slots: int, images: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Distinct classes per image, 1 … 7, drawn by the shares and then corrected to the sum ``slots``."""
    shares = np.repeat(np.arange(1, len(_DISTINCT_SHARES) + 1), _DISTINCT_SHARES)
    wanted: npt.NDArray[np.int64] = shares[rng.integers(0, len(shares), images)].astype(np.int64)
    low, high = 1, len(_DISTINCT_SHARES) + 1
    if not low * images <= slots <= high * images:
        raise AssertionError(f"{slots} class slots do not fit into {images} images")
    while (excess := int(wanted.sum()) - slots) != 0:
        step = 1 if excess < 0 else -1
        able = np.flatnonzero((wanted + step >= low) & (wanted + step <= high))
        wanted[rng.permutation(able)[: abs(excess)]] += step
    return wanted


WORLDS: dict[str, World] = {
    world.name: world
    for world in (
        World(
            name="shapes",
            seed=20_240,
            patterns=PATTERNS,
            colours=COLOURS,
            shapes=SHAPES,
            frequent=50,
            common=40,
            rare=30,
            unseen=28,
            peak=1300,
            split_list=(Split("train", 4000), Split("minival", 300), Split("test", 800)),
        ),
        World(
            name="shapes-lvis",
            seed=1_203,
            patterns=PATTERNS + EXTRA_PATTERNS,
            colours=COLOURS + EXTRA_COLOURS,
            shapes=SHAPES + EXTRA_SHAPES,
            frequent=405,
            common=461,
            rare=337,
            unseen=280,
            peak=2400,
            split_list=(Split("train", 20_000), Split("minival", 300), Split("test", 500)),
        ),
    )
}
