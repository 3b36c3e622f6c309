"""How category names become text. The plan is part of the protocol, because other texts give other results."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from ovd_bench.detectors.errors import DetectorError

if TYPE_CHECKING:
    from ovd_bench.detectors.types import Vocabulary  # needs numpy; the command line needs only the names of the plans

#: Increased when ``PromptPlan`` makes other text, another order or other chunks from the same names, by changes
#: of ``spoken``, ``rows``, ``clean``, ``fill`` or ``chunks``. It is part of every protocol's hash.
CLEANING_VERSION = 1

Cleaning = Literal["none", "lvis"]
Ensemble = Literal["logits", "embeddings"]
Order = Literal["vocabulary", "id", "name"]

#: From the first "(" to the last ")", which GLIP and mmdetection remove from LVIS names such as "bow_(weapon)".
_QUALIFIER = re.compile(r"\(.*\)")

#: The seven templates of OWL-ViT's LVIS evaluation (google-research/scenic, projects/owl_vit/evaluator.py).
OWL_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


@dataclass(frozen=True)
class PromptPlan:
    """From category names to prompts.

    Attributes:
        name: for people; not part of the hash.
        cleaning: ``lvis``: "(…)" removed, underscores and runs of white space become one blank; ``none``: unchanged.
        templates: each with one ``{}``.
        ensemble: what is averaged over templates; OWL-ViT's evaluation averages ``logits``.
        chunk_classes: classes in one text; None = as many as fit the token budget. A model without interaction
            between classes may read all at once; ``DetectorSettings.chunk_top_k`` still counts per chunk.
        token_budget: text tokens per chunk of a model that reads all its classes as one caption.
        order: of the classes before they are split into chunks.
        paraphrase: 0 = the names; n = the n-th synonym that the vocabulary lists for a category instead of its
            name, cyclically if there are fewer; the name if there is none.
        distractors: additional names that are not annotated; their detections are removed.

    Raises:
        DetectorError: no template, one without exactly one ``{}``, a number below 1, a distractor twice.
    """

    name: str = "names"
    cleaning: Cleaning = "lvis"
    templates: tuple[str, ...] = ("{}",)
    ensemble: Ensemble = "logits"
    chunk_classes: int | None = 40
    token_budget: int = 256
    order: Order = "id"
    paraphrase: int = 0
    distractors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.templates:
            raise DetectorError(f"prompt plan '{self.name}': templates is empty, the simplest one is '{{}}'")
        for template in self.templates:
            if template.count("{}") != 1 or template.replace("{}", "").count("{"):
                raise DetectorError(f"prompt plan '{self.name}': template {template!r} needs exactly one {{}}")
        if len(set(self.templates)) != len(self.templates):
            raise DetectorError(f"prompt plan '{self.name}': a template occurs twice")
        for field in ("chunk_classes", "token_budget"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise DetectorError(f"prompt plan '{self.name}': {field} is {value}, expected at least 1")
        if len(set(self.distractors)) != len(self.distractors):
            raise DetectorError(f"prompt plan '{self.name}': a distractor occurs twice")
        if self.paraphrase < 0:
            raise DetectorError(f"prompt plan '{self.name}': paraphrase is {self.paraphrase}, expected at least 0")

    @property
    def sha256(self) -> str:
        """Hash of everything but the name."""
        content = {key: value for key, value in asdict(self).items() if key != "name"}
        for added in (
            "paraphrase",
            "distractors",
        ):  # hashes from before these fields existed are part of published results
            if not content[added]:
                del content[added]
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def spoken(self, vocabulary: Vocabulary) -> Vocabulary:
        """The vocabulary that a detector is given.

        Ids and order are unchanged; distractors follow, with ids above all others.

        Raises:
            DetectorError: a distractor is the name of a category.
        """
        names = list(vocabulary.names)
        if self.paraphrase:
            synonyms = vocabulary.synonyms or ((),) * len(vocabulary)
            names = [self._paraphrased(name, listed) for name, listed in zip(names, synonyms, strict=True)]
        there = {self.clean(name).casefold() for name in names}
        for distractor in self.distractors:
            if self.clean(distractor).casefold() in there:
                raise DetectorError(f"prompt plan '{self.name}': distractor '{distractor}' is also a class")
        if not self.distractors:
            return dataclasses.replace(vocabulary, names=tuple(names))
        first = max(vocabulary.ids) + 1
        ids = (*vocabulary.ids, *range(first, first + len(self.distractors)))
        from ovd_bench.detectors.types import Vocabulary

        return Vocabulary(ids, (*names, *self.distractors))

    def _paraphrased(self, name: str, synonyms: Sequence[str]) -> str:
        own = self.clean(name).casefold()
        others = [word for word in synonyms if self.clean(word).casefold() != own]
        return others[(self.paraphrase - 1) % len(others)] if others else name

    def rows(self, vocabulary: Vocabulary) -> list[int]:
        """Positions of the categories in the order of the plan."""
        rows = list(range(len(vocabulary)))
        if self.order == "id":
            rows.sort(key=lambda row: vocabulary.ids[row])
        elif self.order == "name":
            rows.sort(key=lambda row: (self.clean(vocabulary.names[row]), vocabulary.ids[row]))
        return rows

    def clean(self, name: str) -> str:
        """The words of one category name; if cleaning would leave nothing, the qualifier is kept."""
        if self.cleaning == "none":
            return name
        words = " ".join(name.replace("_", " ").split())
        return " ".join(_QUALIFIER.sub(" ", words).split()) or words

    def fill(self, name: str) -> list[str]:
        """The prompts of one category name, one per template."""
        words = self.clean(name)
        return [template.replace("{}", words) for template in self.templates]

    def collisions(self, vocabulary: Vocabulary) -> dict[str, list[int]]:
        """Texts of more than one category, with the category ids; no detector can distinguish these."""
        ids: dict[str, list[int]] = {}
        for category, name in zip(vocabulary.ids, vocabulary.names, strict=True):
            ids.setdefault(self.clean(name).casefold(), []).append(category)
        return {words: members for words, members in ids.items() if len(members) > 1}

    def chunks(self, classes: int, tokens: Sequence[int] | None = None, overhead: int = 0) -> list[range]:
        """Split ``classes`` categories, already in order, into consecutive chunks.

        Args:
            classes: number of categories.
            tokens: text tokens of each category, separator included; None = the model reads classes one by one, and
                only ``chunk_classes`` counts.
            overhead: tokens of a caption that belong to no category, such as [CLS] and [SEP].

        Returns:
            Positions of each chunk, none without categories. A category's tokens are never split: a category that does
            not fit starts the next chunk.

        Raises:
            DetectorError: one category alone is longer than the budget.
        """
        most = self.chunk_classes or classes
        chunks: list[range] = []
        begin, used = 0, overhead
        for row in range(classes):
            need = tokens[row] if tokens is not None else 0
            if tokens is not None and overhead + need > self.token_budget:
                raise DetectorError(
                    f"prompt plan '{self.name}': category number {row} alone needs {need} tokens of "
                    f"{self.token_budget - overhead}: shorten its name or raise token_budget"
                )
            full = row - begin == most or (tokens is not None and used + need > self.token_budget)
            if full:
                chunks.append(range(begin, row))
                begin, used = row, overhead
            used += need
        return [*chunks, range(begin, classes)] if classes else []


PLANS = {
    plan.name: plan
    for plan in (
        PromptPlan(),
        PromptPlan(name="names-one-pass", chunk_classes=None),
        PromptPlan(name="photo", templates=("a photo of a {}",)),
        PromptPlan(name="owl7", templates=OWL_TEMPLATES),
        PromptPlan(name="raw", cleaning="none"),
        *(PromptPlan(name=f"synonyms-{number}", paraphrase=number) for number in (1, 2, 3)),
    )
}


def default_plan(vocabulary: Vocabulary) -> PromptPlan:
    """The plan for a vocabulary for which none is asked: ``names``, or ``raw`` where that would change a name.

    A bracket in a name of LVIS tells two senses of a word apart, as in "bow_(weapon)"; in a name of another data set it
    may be all that tells two classes apart. LVIS is known by a synset of each category.
    """
    names = PLANS["names"]
    kept = all(vocabulary.synset) if vocabulary.synset else False
    return names if kept or all(names.clean(name) == name for name in vocabulary.names) else PLANS["raw"]
