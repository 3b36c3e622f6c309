"""Singular of an English noun by rule, with the exceptions that occur in names of visible things.

The rules are part of the metric and therefore not taken from a package: a word list that is updated elsewhere would
silently change results. Only nouns are handled. Both sides of every comparison go through the same function, so
a wrong but consistent singular ("scissor") has no effect.
"""

from __future__ import annotations

from functools import lru_cache


def word_set(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


# Endings of irregular plurals, so that "bookshelves" and "grandchildren" follow "shelves" and "children".
_IRREGULAR_ENDINGS = (
    ("children", "child"),
    ("shelves", "shelf"),
    ("shoes", "shoe"),
    ("thieves", "thief"),
    ("scarves", "scarf"),
    ("knives", "knife"),
    ("wolves", "wolf"),
    ("loaves", "loaf"),
    ("leaves", "leaf"),
    ("halves", "half"),
    ("calves", "calf"),
    ("hooves", "hoof"),
    ("wives", "wife"),
    ("teeth", "tooth"),
    ("geese", "goose"),
    ("feet", "foot"),
    ("mice", "mouse"),
    ("men", "man"),
)
_IRREGULAR = {
    "people": "person",
    "persons": "person",
    "oxen": "ox",
    "elves": "elf",
    "lice": "louse",
    "quizzes": "quiz",
    "cacti": "cactus",
    "octopi": "octopus",
    "hippopotami": "hippopotamus",
    "fungi": "fungus",
    "menus": "menu",
    "emus": "emu",
    "gnus": "gnu",
}
# Not plurals although they end like one.
_SINGULAR = word_set(
    "abdomen atlas bias canvas christmas cosmos gas gyros lens news omen pancreas pumice ramen regimen rhinoceros "
    "series species specimen stamen thermos"
)
# Singulars whose plural adds -s, but the rules below would remove more, or nothing (cookie, moustache, taxi) ...
_PLURAL_IN_S = word_set(
    "ache avalanche beanie birdie bikini boogie bowtie brioche broccoli brownie cache calorie canoe chili collie "
    "cookie doe foe fuse genie goalie headache hippie hoe hoodie jacuzzi kiwi lie magpie martini moustache movie "
    "mustache necktie niche oboe onesie pie pixie potpie prairie quiche rabbi rookie safari sari selfie ski "
    "smoothie sweetie taxi tie tiptoe toe toothache veggie yeti zombie zucchini"
)
# ... and singulars in -s whose plural adds -es, but the rules would remove only the -s.
_PLURAL_IN_ES = word_set("atlas bias canvas christmas gas iris lens pancreas rhinoceros thermos trellis")


def exceptions() -> dict[str, object]:
    """All tables that ``lemma`` uses, in a fixed order: its results depend on these and on the rules."""
    return {
        "endings": _IRREGULAR_ENDINGS,
        "irregular": sorted(_IRREGULAR.items()),
        "singular": sorted(_SINGULAR),
        "plural in s": sorted(_PLURAL_IN_S),
        "plural in es": sorted(_PLURAL_IN_ES),
    }


@lru_cache(maxsize=1 << 16)
def lemma(word: str) -> str:
    """Singular of one lower-case English noun; a word that is not a plural is returned unchanged.

    Exceptions first (irregular endings, words that only look plural), then the rules ``-ies`` → ``-y``; ``-sses``,
    ``-shes``, ``-ches``, ``-xes``, ``-zzes``, ``-oes`` and ``-uses`` (not ``-ouses``) without ``-es``; any other ``-s``
    dropped except in ``-ss``, ``-us`` and ``-is``.
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _SINGULAR or len(word) < 3:
        return word
    for plural, singular in _IRREGULAR_ENDINGS:
        if word.endswith(plural):
            return word[: -len(plural)] + singular
    if not word.endswith("s"):
        return word
    if word[:-1] in _PLURAL_IN_S:
        return word[:-1]
    if word.endswith("es") and word[:-2] in _PLURAL_IN_ES:
        return word[:-2]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zzes", "oes")):
        return word[:-2]
    if word.endswith("uses") and not word.endswith("ouses"):
        return word[:-2]
    return word if word.endswith(("ss", "us", "is")) else word[:-1]
