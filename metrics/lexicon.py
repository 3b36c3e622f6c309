"""From a free text to a class of the vocabulary: normalisation, an English noun lemmatiser, and the ladder of rungs.

A rung is one kind of lexical relation between what a detector wrote and the name of a class. Rungs are tried from
strict to loose and the first that matches decides; a text never maps to more than one class.

========  ==============================================================================================================
exact     the normalised text is the class name, with or without its trailing qualifier: "crab" for ``crab_(animal)``
lemma     the same after every word is brought to its singular ("wine glasses" for ``wine_glass``)
synonym   a synonym listed in the annotation file, as it stands or in the singular
hyponym   a word of the user's hypernym table: the nearest hypernym that maps by the rungs above names the class
head      the head noun of a longer noun phrase ("a red wooden chair" is a chair): see :meth:`Lexicon.lookup`
========  ==============================================================================================================

The first four follow the relations of the lexical mapping for open-ended segmentation (exact, synonym, hyponym). The
head rung is separate and last because it guesses syntax: it maps "toy car" to ``car`` too. It exists because otherwise
every attribute that a captioning detector adds would count as a naming error.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.lemma import exceptions, lemma, word_set
from ovd_bench.metrics.types import Categories

#: The rungs from strict to loose.
RUNGS = ("exact", "lemma", "synonym", "hyponym", "head")
HEAD_RUNG = RUNGS.index("head")

#: A longer phrase is a sentence, not a name: the head rung does not map it.
MAX_HEAD_WORDS = 12

#: Replaces a comma, a slash or a full stop between words: "hot, dog" is not "hot dog".
LIST_MARK = ","

# Words before a noun that do not change what it names: "the dog", "two dogs", "his dog".
_DETERMINERS = word_set(
    "a an the this that these those some any each every another other all both several many few more no my your his "
    "her its our their one two three four five six seven eight nine ten"
)
# "a pair of shoes" shows shoes; "a cup of coffee" shows a cup, so vessels are not in this list.
_MEASURES = word_set("bunch couple group herd flock lot number pair piece pile row set slice stack")
_CONJUNCTIONS = frozenset((LIST_MARK, "and", "or", "nor", "versus", "vs"))
# What follows one of these describes the noun before it: "man in a hat".
_POST_MODIFIERS = word_set(
    "about above across against along among around as at behind below beneath beside between beyond by carrying "
    "containing covered down during eating featuring filled for from full going having held holding in inside into "
    "like lying made near next of off on onto out outside over parked playing resting riding running sitting "
    "sleeping standing that through to toward towards under underneath up upon using walking wearing which while "
    "who whose with within without"
)

_APOSTROPHES = re.compile("['’‘`´]")
_LIST_SEPARATORS = re.compile(r"[,;:|/&+•\n\r]|\.(?=\s|$)")
_DOTS_INSIDE = re.compile(r"(?<=\w)\.(?=\w)")
_OTHER_PUNCTUATION = re.compile(rf"[^\w{LIST_MARK}]|_")
_QUALIFIER = re.compile(r"\([^()]*\)\s*$")


def lexicon_sha256() -> str:
    """Hash of all tables besides the names of a vocabulary: word lists, patterns, exceptions of lemmas."""
    words = (_DETERMINERS, _MEASURES, _CONJUNCTIONS, _POST_MODIFIERS)
    patterns = (_APOSTROPHES, _LIST_SEPARATORS, _DOTS_INSIDE, _OTHER_PUNCTUATION, _QUALIFIER)
    content = {
        "rungs": RUNGS,
        "head words": MAX_HEAD_WORDS,
        "words": [sorted(group) for group in words],
        "patterns": [pattern.pattern for pattern in patterns],
        "lemma": exceptions(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Lookup(NamedTuple):
    """Result for a text: class position, position in ``RUNGS``, whether other classes match as well."""

    class_index: int
    rung: int
    ambiguous: bool


#: The result for a text that names no class.
UNMAPPED = Lookup(-1, -1, False)


class _Layer(NamedTuple):
    """One table of a rung: key -> class positions, ascending. ``singular``: keys are lemmas."""

    rung: int
    singular: bool
    classes: dict[str, tuple[int, ...]]


def tokens(text: str) -> list[str]:
    """Words of a text in lower case; separators of list items become the word ``LIST_MARK``.

    Unicode NFKC and case folding; apostrophes and dots inside a word are removed ("men's" → "mens", "D.V.D" → "dvd");
    commas, semicolons, colons, bars, slashes, ``&``, ``+``, line ends and full stops become one list mark, dropped at
    both ends; every other punctuation, underscores and hyphens included, is a space.
    """
    text = unicodedata.normalize("NFKC", _APOSTROPHES.sub("", text)).casefold()
    text = _LIST_SEPARATORS.sub(f" {LIST_MARK} ", text)
    text = _OTHER_PUNCTUATION.sub(" ", _DOTS_INSIDE.sub("", text))
    words = text.split()
    words = [word for i, word in enumerate(words) if word != LIST_MARK or (i > 0 and words[i - 1] != LIST_MARK)]
    while words and words[-1] == LIST_MARK:
        words.pop()
    return words


def normalise(text: str) -> str:
    """The key of a text: its :func:`tokens` without leading determiners ("the two dogs" → "dogs"), joined by spaces.

    If all words are determiners, the last one is kept. Plurals are not changed; the lemma rung handles them.
    """
    return " ".join(_strip_determiners(tokens(text)))


def without_qualifier(name: str) -> str:
    """A class name without its trailing qualifier in brackets: ``crab_(animal)`` → ``crab``."""
    return _QUALIFIER.sub("", name).rstrip("_ ") or name


@dataclass(frozen=True)
class Lexicon:
    """Names of a vocabulary, ready for :meth:`lookup`. Build with :meth:`from_categories`.

    Attributes:
        num_classes: K, number of classes of the vocabulary.
        rungs: names of the rungs that are defined; ``synonym`` and ``hyponym`` need their data.
    """

    num_classes: int
    rungs: tuple[str, ...]
    _layers: tuple[_Layer, ...]

    @staticmethod
    def from_categories(categories: Categories, hypernyms: Mapping[str, Sequence[str]] | None = None) -> Lexicon:
        """Lexicon of a vocabulary.

        Args:
            categories: names and synonyms (K classes).
            hypernyms: word → its hypernyms, nearest first, e.g. ``{"poodle": ["dog", "animal"]}``. The first hypernym
                that is a name or synonym of a class decides; a word without such a hypernym stays unmapped.
                None leaves the rung undefined.

        Raises:
            DataError: a class name without a letter or digit, or a hypernym list that is a plain text.
        """
        names = [(name, index) for index, name in enumerate(categories.names)]
        for name, index in names:
            if not normalise(name):
                raise DataError(f"category {int(categories.ids[index])}: name {name!r} has no letter or digit")
        bare = [(without_qualifier(name), index) for name, index in names]
        listed = [(synonym, index) for index, row in enumerate(categories.synonyms) for synonym in row]
        listed_bare = [(without_qualifier(synonym), index) for synonym, index in listed]

        exact = [_layer("exact", False, pairs) for pairs in (names, bare)]
        singular = [_layer("lemma", True, pairs) for pairs in (names, bare)]
        layers = exact + singular
        rungs = ["exact", "lemma"]
        if listed:
            rungs.append("synonym")
            layers += [_layer("synonym", lemmas, p) for lemmas in (False, True) for p in (listed, listed_bare)]
        if hypernyms is not None:
            rungs.append("hyponym")
            named = Lexicon(len(categories), tuple(rungs), tuple(layers))
            pairs = [(word, index) for word, path in hypernyms.items() for index in named._first_class(word, path)]
            layers += [_layer("hyponym", lemmas, pairs) for lemmas in (False, True)]
        return Lexicon(len(categories), (*rungs, "head"), tuple(layers))

    def lookup(self, text: str) -> Lookup:
        """Class of a text by the first rung that matches; ``UNMAPPED`` if none does.

        If several classes match at the same rung (``bow_(weapon)`` and ``bow_(decorative_ribbons)`` for "bow"), the
        class of the lowest position (the lowest category id) is returned and ``ambiguous`` is set. Within a rung, full
        names go before names without qualifier and these before singulars.

        The head rung reads a noun phrase of at most ``MAX_HEAD_WORDS`` words: leading determiners and measures
        ("a pair of") are removed, and so is everything from the first preposition, relative pronoun or common
        participle on ("in a hat"). The longest suffix of the rest that any rung above matches is the head. It refuses
        lists: words before the head that name two or more classes ("cat dog bird"), or one and hold a comma or a
        conjunction ("cat, dog", "cat and dog", but not "black and white dog"). One alone is allowed because English
        builds compounds that way ("orange cat", "glass table").
        """
        words = _strip_determiners(tokens(text))
        if not words:
            return UNMAPPED
        found = self._match(words)
        return found if found is not None else self._head(words)

    def _match(self, words: Sequence[str]) -> Lookup | None:
        """Result of the rungs above ``head`` for these words."""
        key = " ".join(words)
        singular = _singular(words)
        for layer in self._layers:
            classes = layer.classes.get(singular if layer.singular else key)
            if classes is not None:
                return Lookup(classes[0], layer.rung, len(classes) > 1)
        return None

    def _head(self, words: list[str]) -> Lookup:
        if len(words) > MAX_HEAD_WORDS:
            return UNMAPPED
        if len(words) > 2 and lemma(words[0]) in _MEASURES and words[1] == "of":
            words = _strip_determiners(words[2:])
        words = words[: self._end_of_noun(words)]
        for start in range(len(words)):
            found = self._match(words[start:])
            if found is not None:
                allowed = 0 if _CONJUNCTIONS.intersection(words[:start]) else 1
                return found._replace(rung=HEAD_RUNG) if self._mentions(words[:start]) <= allowed else UNMAPPED
        return UNMAPPED

    def _end_of_noun(self, words: Sequence[str]) -> int:
        """Position of the first word that starts a description of the noun before it; len(words) if there is none."""
        for i in range(1, len(words)):
            # the name of a class may hold such a word: "sleeping bag"
            if words[i] in _POST_MODIFIERS and not any(
                self._match(words[start:end]) for start in range(i + 1) for end in range(i + 1, len(words) + 1)
            ):
                return i
        return len(words)

    def _mentions(self, words: Sequence[str]) -> int:
        """Number of classes named by these words, longest name first from the left."""
        count = start = 0
        while start < len(words):
            ends = (end for end in range(len(words), start, -1) if self._match(words[start:end]) is not None)
            end = next(ends, None)
            count += end is not None
            start = end if end is not None else start + 1
        return count

    def _first_class(self, word: str, path: Sequence[str]) -> tuple[int, ...]:
        """Class of the nearest hypernym that names one; () if none does."""
        if isinstance(path, str):
            raise DataError(f"hypernyms of {word!r}: {path!r} is a text, expected a list of texts, nearest first")
        found = (self._match(_strip_determiners(tokens(hypernym))) for hypernym in path)
        return next(((lookup.class_index,) for lookup in found if lookup is not None), ())


def _strip_determiners(words: list[str]) -> list[str]:
    start = 0
    while start < len(words) - 1 and words[start] in _DETERMINERS:
        start += 1
    return words[start:]


def _singular(words: Sequence[str]) -> str:
    # "glasses" alone are worn, "wine glasses" are drunk from
    if list(words) == ["glasses"]:
        return "glasses"
    return " ".join(lemma(word) for word in words)


def _layer(rung: str, singular: bool, pairs: Iterable[tuple[str, int]]) -> _Layer:
    classes: dict[str, set[int]] = {}
    for text, index in pairs:
        words = _strip_determiners(tokens(text))
        if words:
            classes.setdefault(_singular(words) if singular else " ".join(words), set()).add(index)
    return _Layer(RUNGS.index(rung), singular, {key: tuple(sorted(found)) for key, found in classes.items()})
