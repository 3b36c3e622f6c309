"""Spans of the phrases of a caption: finding them, joining them, and grouping boxes by them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from ovd_bench.benchmarks.data.odvg.records import OdvgRecord, Region
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.metrics.errors import DataError

Span = tuple[int, int]
BoxXyxy = tuple[float, float, float, float]

#: Spans are searched in captions up to this length; a text encoder reads about 1,000 characters.
MAX_CAPTION = 100_000


def with_spans(record: OdvgRecord) -> OdvgRecord:
    """The record with ``tokens_positive`` in every region, as training needs it.

    Open-GroundingDino's dialect gives only the phrase, which is searched as whole words. If several regions have the
    same phrase, the n-th region takes the n-th occurrence, if there are enough; otherwise all take the first one and
    become several boxes of one phrase. The search is case-sensitive, unless that gives too few occurrences.

    Raises:
        DataError: a phrase is not in the caption; without file and line.
    """
    grounding = record.grounding
    if grounding is None or all(region.tokens_positive is not None for region in grounding.regions):
        return record
    if len(grounding.caption) > MAX_CAPTION:
        raise DataError(
            f"the caption has {len(grounding.caption):,} characters: phrases are searched in at most {MAX_CAPTION:,}"
        )
    wanted = Counter(
        phrase for region in grounding.regions if region.tokens_positive is None for phrase in region.phrase
    )
    places = {phrase: _places(grounding.caption, phrase, count) for phrase, count in wanted.items()}
    regions = []
    for region in grounding.regions:
        if region.tokens_positive is None:
            spans = joined_spans(grounding.caption, [next(places[phrase]) for phrase in region.phrase])
            region = region.model_copy(update={"tokens_positive": spans})
        regions.append(region)
    return record.model_copy(update={"grounding": grounding.model_copy(update={"regions": tuple(regions)})})


def _places(caption: str, phrase: str, count: int) -> Iterator[Span]:
    """Span of each of ``count`` regions with the same phrase."""
    same_case, any_case = (_occurrences(caption, phrase.strip(), flags) for flags in (0, re.IGNORECASE))
    for found in (same_case, any_case):
        if len(found) >= count:
            return iter(found)
    for found in (same_case, any_case):
        if found:
            return iter([found[0]] * count)
    raise DataError(f"phrase '{printable(phrase[:80])}' is not in the caption: '{printable(caption[:80])}'")


def _occurrences(caption: str, phrase: str, flags: int) -> list[Span]:
    """Spans at which a phrase occurs as whole words, from left to right, without overlap."""
    if not phrase or len(phrase) > len(caption):
        return []
    # A side that ends in punctuation has no boundary: "'s hat" follows a letter.
    before = r"(?<!\w)" if re.match(r"\w", phrase) else ""
    after = r"(?!\w)" if re.match(r"\w", phrase[-1]) else ""
    return [match.span() for match in re.finditer(before + re.escape(phrase) + after, caption, flags)]


def joined_spans(caption: str, spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans in the order of the caption; those that touch, overlap or have one space between them become one."""
    found: list[Span] = []
    for begin, end in sorted(set(spans)):
        if found and (begin <= found[-1][1] or caption[found[-1][1] : begin] == " "):
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return tuple(found)


def regions_by_span(caption: str, boxes: Iterable[tuple[Iterable[Span], BoxXyxy]]) -> tuple[tuple[Region, ...], int]:
    """One region per set of spans, with all its boxes.

    Unlike in mmdetection's converter, which groups boxes by the text of the phrase, two phrases of the same words at
    different positions stay separate.

    Args:
        caption: the text that spans are of.
        boxes: spans, inside the caption and at least one, and box of every annotation.

    Returns:
        Regions in the order in which their phrases first appear in ``boxes``, and the number of boxes left out because
        the same spans already have them.
    """
    gathered: dict[tuple[Span, ...], dict[BoxXyxy, None]] = {}
    total = 0
    for spans, box in boxes:
        total += 1
        gathered.setdefault(joined_spans(caption, spans), {})[box] = None
    regions = tuple(
        Region(bbox=tuple(found), phrase=tuple(caption[begin:end] for begin, end in spans), tokens_positive=spans)
        for spans, found in gathered.items()
    )
    return regions, total - sum(len(region.bbox) for region in regions)
