"""Scoring of free text: phrases mapped to classes, AP along the ladder of rungs, token overlap with the true phrase."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.boxes import match_greedy, xywh_to_xyxy
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import evaluate
from ovd_bench.metrics.lexicon import LIST_MARK, RUNGS, UNMAPPED, Lexicon, tokens, without_qualifier
from ovd_bench.metrics.protocol import Protocol
from ovd_bench.metrics.types import Categories, GroundTruth, Predictions, positions

#: Smallest IoU at which a box and its phrase are compared with a ground truth.
IOU_THRESHOLD = 0.5

_ARTICLES = frozenset(("a", "an", "the"))
_EXAMPLES = 20
_EXAMPLE_CHARACTERS = 100

Phrases = Sequence[str] | npt.NDArray[np.object_]


@dataclass(frozen=True)
class MappingResult:
    """Classes of N phrases.

    Attributes:
        class_index: int32 (N,), class position, -1 where the phrase names no class.
        rung: int8 (N,), position in ``metrics.lexicon.RUNGS`` of the rung that mapped the phrase, -1 where none did.
        ambiguous: bool (N,), several classes fitted at that rung (the lowest position was taken).
        counts: phrases per rung, ``unmapped``, and among all: ``ambiguous``, ``empty`` (no letter or digit).
        metrics: the counts over N as ``phrase/exact_rate`` …, ``phrase/unmapped_rate``, ``phrase/ambiguous_rate``,
            ``phrase/empty_rate``; None for a rung the lexicon does not define and where N is 0.
        unmapped_examples: the most frequent unmapped phrases with their counts (equal counts: first seen first), at
            most 20, long ones cut.
    """

    class_index: npt.NDArray[np.int32]
    rung: npt.NDArray[np.int8]
    ambiguous: npt.NDArray[np.bool_]
    counts: dict[str, int]
    metrics: dict[str, float | None]
    unmapped_examples: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class LexicalAlignment:
    """AP while the relations between phrase and class are relaxed one by one (lexical alignment curve).

    Attributes:
        rungs: the five rungs, strict to loose.
        evaluations: per rung, the engine's statistics with every phrase mapped up to and including that rung; None
            where the lexicon does not define the rung.
        mapping: the mapping at the loosest rung.
        metrics: ``phrase/AP_exact`` … ``phrase/AP_head``.
    """

    rungs: tuple[str, ...]
    evaluations: tuple[dict[str, float | None] | None, ...]
    mapping: MappingResult
    metrics: dict[str, float | None]


@dataclass(frozen=True)
class PhraseOverlap:
    """Token overlap of predicted and true phrases over M matched boxes.

    Attributes:
        gt_row: int64 (M,), row of the matched ground truth, ascending.
        image_index: int32 (M,), image position of the match.
        f1: float64 (M,), token F1.
        exact: bool (M,), the normalised phrases are equal.
        metrics: ``phrase/token_f1`` and ``phrase/exact_match``, means over the M matches; ``phrase/token_f1_image`` and
            ``phrase/exact_match_image``, means over images of the image's mean over its matches;
            ``phrase/token_f1_objects``, sum of F1 over all objects, so that a missed object counts 0;
            ``phrase/matched_rate``, M over all objects. None where nothing is averaged.
    """

    gt_row: npt.NDArray[np.int64]
    image_index: npt.NDArray[np.int32]
    f1: npt.NDArray[np.float64]
    exact: npt.NDArray[np.bool_]
    metrics: dict[str, float | None]


def map_phrases(phrases: Phrases, lexicon: Lexicon) -> MappingResult:
    """Class of every phrase by the rungs of ``metrics.lexicon``.

    A phrase maps to one class or to none: an empty phrase, a list of names and a sentence full of names map to none
    (rules at :meth:`metrics.lexicon.Lexicon.lookup`), so naming everything has no advantage.

    Args:
        phrases: N texts.
        lexicon: names of the vocabulary.

    Raises:
        DataError: an element that is not a text.
    """
    names, inverse = _unique(phrases)
    looked_up = [lexicon.lookup(name) for name in names]
    number = np.bincount(inverse, minlength=len(names))

    class_index = np.array([x.class_index for x in looked_up], np.int32)
    rung = np.array([x.rung for x in looked_up], np.int8)
    ambiguous = np.array([x.ambiguous for x in looked_up], np.bool_)
    empty = np.array([x is UNMAPPED and not tokens(name) for name, x in zip(names, looked_up, strict=True)], np.bool_)
    counts = {name: int(number[rung == i].sum()) for i, name in enumerate(RUNGS)}
    counts["unmapped"] = int(number[rung < 0].sum())
    counts["ambiguous"] = int(number[ambiguous].sum())
    counts["empty"] = int(number[empty].sum())

    undefined = set(RUNGS) - set(lexicon.rungs)
    metrics = {
        f"phrase/{name}_rate": None if name in undefined or len(phrases) == 0 else count / len(phrases)
        for name, count in counts.items()
    }
    missed = np.flatnonzero(rung < 0)
    missed = missed[np.argsort(-number[missed], kind="stable")][:_EXAMPLES]
    examples = tuple((_shorten(names[i]), int(number[i])) for i in missed)
    return MappingResult(class_index[inverse], rung[inverse], ambiguous[inverse], counts, metrics, examples)


def to_predictions(
    predictions: Predictions, mapping: MappingResult, categories: Categories, last_rung: str = RUNGS[-1]
) -> Predictions:
    """The mapped rows with the category of their phrase, so that any AP of the suite can be computed on free text.

    Rows that no rung up to ``last_rung`` maps are left out: an unmapped box is neither correct nor a false positive of
    some class; it only lowers recall. They are left out before the caps of the protocol.

    Args:
        predictions: N boxes with any category.
        mapping: mapping of the N phrases.
        categories: the vocabulary the lexicon was built from.
        last_rung: loosest rung to accept.

    Raises:
        DataError: ``mapping`` does not belong to these predictions.
    """
    if len(mapping.class_index) != len(predictions):
        raise DataError(f"mapping has {len(mapping.class_index)} phrases, predictions have {len(predictions)} rows")
    rows = (mapping.rung >= 0) & (mapping.rung <= RUNGS.index(last_rung))
    category_id = categories.ids[mapping.class_index[rows]].astype(np.int32)
    return replace(predictions.take(rows), category_id=category_id)


def lexical_alignment(
    gt: GroundTruth, predictions: Predictions, lexicon: Lexicon, protocol: Protocol
) -> LexicalAlignment:
    """AP of free-text predictions at every rung: exact names only, then singulars, synonyms, hyponyms, head nouns.

    The curve is flat for a detector that uses the names of the vocabulary. A rise from one rung to the next is the loss
    by free naming under the stricter rung.

    Raises:
        DataError: predictions without phrases, or a lexicon of another vocabulary.
    """
    phrases = _phrases(predictions)
    if lexicon.num_classes != gt.num_classes:
        raise DataError(f"the lexicon knows {lexicon.num_classes} classes, the ground truth {gt.num_classes}")
    mapping = map_phrases(phrases, lexicon)
    evaluations = tuple(
        evaluate(gt, to_predictions(predictions, mapping, gt.categories, rung), protocol).metrics
        if rung in lexicon.rungs
        else None
        for rung in RUNGS
    )
    metrics = {
        f"phrase/AP_{rung}": None if statistics is None else statistics["AP"]
        for rung, statistics in zip(RUNGS, evaluations, strict=True)
    }
    return LexicalAlignment(RUNGS, evaluations, mapping, metrics)


def token_f1(predicted: str, references: Iterable[str]) -> float:
    """Best token F1 of a phrase against any of its references, in [0, 1].

    Tokens are those of :func:`metrics.lexicon.tokens` without list marks and articles; the overlap is that of multisets
    (a word counts as often as it occurs in both): precision = overlap / predicted tokens, recall = overlap / reference
    tokens, F1 their harmonic mean. As in the evaluation of SQuAD (Rajpurkar 2016), with two differences: hyphens and
    underscores separate words, and an empty phrase scores 0 against anything.
    """
    words = Counter(_f1_tokens(predicted))
    best = 0.0
    for reference in references:
        other = Counter(_f1_tokens(reference))
        overlap = (words & other).total()
        if overlap:
            best = max(best, 2 * overlap / (words.total() + other.total()))
    return best


def phrase_overlap(
    gt: GroundTruth, predictions: Predictions, true_phrases: Sequence[str] | None = None
) -> PhraseOverlap:
    """Token F1 and exact-match rate of phrases over label-agnostically matched boxes.

    Boxes are matched per image, greedily by score, at IoU >= 0.5, one ground truth once; crowd and ignored ground truth
    is left out. Long phrases lose precision, so a sentence that names everything scores near 0.

    Args:
        gt: ground truth (G rows).
        predictions: boxes with phrases.
        true_phrases: G texts, the phrase of every ground-truth row. Without them the references are the name and the
            synonyms of its class, with and without trailing qualifier; the best one counts.

    Raises:
        DataError: predictions without phrases, an unknown image id, or ``true_phrases`` of another length.
    """
    phrases = _phrases(predictions)
    if true_phrases is not None and len(true_phrases) != len(gt.ann_ids):
        raise DataError(f"true_phrases has {len(true_phrases)} rows, the ground truth has {len(gt.ann_ids)}")
    image_index = positions(gt.image_ids, predictions.image_id)
    if np.any(image_index < 0):
        row = int(np.argmin(image_index))
        raise DataError(f"record {row}: image_id {int(predictions.image_id[row])} is not in the ground truth")

    objects = np.flatnonzero(~(gt.iscrowd | gt.ignore))
    boxes = xywh_to_xyxy(gt.boxes_xywh[objects])
    match = match_greedy(
        gt.image_index[objects], boxes, image_index, predictions.boxes_xyxy(), predictions.score, IOU_THRESHOLD
    )
    rows = np.flatnonzero(match >= 0)
    rows = rows[np.argsort(match[rows])]
    gt_row = objects[match[rows]]

    if true_phrases is None:
        references = [_references(gt.categories, i) for i in range(gt.num_classes)]
        reference_of = gt.class_index[gt_row]
    else:
        names, reference_of = _unique(true_phrases)
        references = [(name,) for name in names]
        reference_of = reference_of[gt_row]
    f1, exact = _score_pairs([phrases[row] for row in rows], reference_of, references)
    matched_image = gt.image_index[gt_row]
    return PhraseOverlap(gt_row, matched_image, f1, exact, _overlap_metrics(f1, exact, matched_image, len(objects)))


def _overlap_metrics(
    f1: npt.NDArray[np.float64], exact: npt.NDArray[np.bool_], image_index: npt.NDArray[np.int32], num_objects: int
) -> dict[str, float | None]:
    number = np.bincount(image_index)
    images = number > 0

    def over_images(values: npt.NDArray[np.float64]) -> float | None:
        sums = np.bincount(image_index, weights=values)
        return float(np.mean(sums[images] / number[images])) if len(values) else None

    return {
        "phrase/token_f1": float(np.mean(f1)) if len(f1) else None,
        "phrase/token_f1_image": over_images(f1),
        "phrase/token_f1_objects": float(f1.sum()) / num_objects if num_objects else None,
        "phrase/exact_match": float(np.mean(exact)) if len(f1) else None,
        "phrase/exact_match_image": over_images(exact.astype(np.float64)),
        "phrase/matched_rate": len(f1) / num_objects if num_objects else None,
    }


def _score_pairs(
    phrases: list[str], reference_of: npt.NDArray[np.int32], references: list[tuple[str, ...]]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """F1 and exact match of every phrase with the references numbered ``reference_of``; each pair is scored once."""
    scores: dict[tuple[str, int], tuple[float, bool]] = {}
    pairs = list(zip(phrases, reference_of.tolist(), strict=True))
    for phrase, reference in dict.fromkeys(pairs):
        words = _f1_tokens(phrase)
        exact = bool(words) and any(words == _f1_tokens(text) for text in references[reference])
        scores[phrase, reference] = token_f1(phrase, references[reference]), exact
    f1 = np.array([scores[pair][0] for pair in pairs], np.float64)
    return f1, np.array([scores[pair][1] for pair in pairs], np.bool_)


def _references(categories: Categories, index: int) -> tuple[str, ...]:
    texts = (categories.names[index], *categories.synonyms[index])
    return tuple(dict.fromkeys((*texts, *(without_qualifier(text) for text in texts))))


def _f1_tokens(text: str) -> list[str]:
    words = [word for word in tokens(text) if word != LIST_MARK]
    # a class may be called "A"
    return [word for word in words if word not in _ARTICLES] or words


def _phrases(predictions: Predictions) -> npt.NDArray[np.object_]:
    if predictions.phrase is None:
        raise DataError("predictions have no phrase column, free text cannot be scored")
    return predictions.phrase


def _unique(phrases: Phrases) -> tuple[list[str], npt.NDArray[np.int32]]:
    """Distinct texts in order of first appearance, and the number of each phrase among them, int32 (N,)."""
    # a dictionary of 1.5 million mostly repeated texts is much faster than sorting them
    values = phrases.tolist() if isinstance(phrases, np.ndarray) else phrases
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(f"record {row}: phrase is {type(value).__name__}, expected a text")
    number = {text: i for i, text in enumerate(dict.fromkeys(values))}
    return list(number), np.fromiter((number[text] for text in values), np.int32, len(values))


def _shorten(text: str) -> str:
    return text if len(text) <= _EXAMPLE_CHARACTERS else text[: _EXAMPLE_CHARACTERS - 1] + "…"
