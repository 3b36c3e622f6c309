"""Spans of the phrases of a caption: finding them, joining them, and grouping boxes by them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from ovd_bench.benchmarks.data.odvg.records import Grounding, OdvgRecord, Region
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.metrics.errors import DataError

Span = tuple[int, int]
BoxXyxy = tuple[float, float, float, float]

#: Spans are searched in captions up to this length; a text encoder reads about 1,000 characters.
MAX_CAPTION = 100_000


#: Letters of scripts that are written without blanks: Thai, Lao, Burmese, Khmer, Japanese and Chinese.
_NO_BLANKS = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
#: A character of a word in a script that is written with blanks.
_IN_WORD = rf"[^\W{_NO_BLANKS}]"

#: Kinds of phrases that have no place in their caption.
ABSENT = "of phrases that are not in the caption"
INSIDE = "of phrases that are in the caption only inside other words"
BLANK = "of phrases without a character"


def with_spans(record: OdvgRecord) -> OdvgRecord:
    """The record with ``tokens_positive`` in every region, as training needs it; see ``placed``.

    Raises:
        DataError: a phrase is not in the caption; without file and line.
    """
    record, misfits = placed(record)
    if misfits and record.grounding is not None:
        region, kind = misfits[0]
        phrase, caption = printable(" / ".join(region.phrase)[:80]), printable(record.grounding.caption[:80])
        inside = ", only inside other words" if kind == INSIDE else ""
        raise DataError(
            f"phrase '{phrase}' is not in the caption: '{caption}'{inside}: "
            "'bench data convert ogd-odvg' drops its boxes"
        )
    return record


def placed(record: OdvgRecord) -> tuple[OdvgRecord, list[tuple[Region, str]]]:
    """Find the spans of regions that have none, and take the regions out that have no place.

    Open-GroundingDino's dialect gives only the phrase. It is searched as whole words, and at any position where it
    begins or ends with a letter of a script that is written without blanks, such as Chinese. If several regions have
    the same phrase, the n-th region takes the n-th occurrence, if there are enough; otherwise all take the first one
    and become several boxes of one phrase. The search is case-sensitive, unless that gives too few occurrences.

    Returns:
        The record with the regions that have spans, and each of the others with the kind of its misfit.

    Raises:
        DataError: the caption is too long to search in; without file and line.
    """
    grounding = record.grounding
    if grounding is None or all(region.tokens_positive is not None for region in grounding.regions):
        return record, []
    if len(grounding.caption) > MAX_CAPTION:
        raise DataError(
            f"the caption has {len(grounding.caption):,} characters: phrases are searched in at most {MAX_CAPTION:,}"
        )
    wanted = Counter(
        phrase for region in grounding.regions if region.tokens_positive is None for phrase in region.phrase
    )
    places = {phrase: _places(grounding.caption, phrase, count) for phrase, count in wanted.items()}
    regions, misfits = [], []
    for region in grounding.regions:
        if region.tokens_positive is None:
            found = [next(places[phrase], None) for phrase in region.phrase]
            spans = [span for span in found if span is not None]
            if len(spans) < len(found):
                misfits.append((region, _kind(grounding.caption, region.phrase[found.index(None)])))
                continue
            region = region.model_copy(update={"tokens_positive": joined_spans(grounding.caption, spans)})
        regions.append(region)
    return record.model_copy(update={"grounding": grounding.model_copy(update={"regions": tuple(regions)})}), misfits


def _places(caption: str, phrase: str, count: int) -> Iterator[Span]:
    """Span of each of ``count`` regions with the same phrase; none if it is not in the caption."""
    same_case, any_case = (_occurrences(caption, phrase.strip(), flags) for flags in (0, re.IGNORECASE))
    for found in (same_case, any_case):
        if len(found) >= count:
            return iter(found)
    for found in (same_case, any_case):
        if found:
            return iter([found[0]] * count)
    return iter(())


def _kind(caption: str, phrase: str) -> str:
    """Why a phrase has no place."""
    if not phrase.strip():
        return BLANK
    return INSIDE if re.search(re.escape(phrase.strip()), caption, re.IGNORECASE) else ABSENT


def _occurrences(caption: str, phrase: str, flags: int) -> list[Span]:
    """Spans at which a phrase occurs as whole words, from left to right, without overlap."""
    if not phrase or len(phrase) > len(caption):
        return []
    # A side that ends in punctuation, or in a script without blanks, has no boundary: "'s hat" follows a letter.
    before = f"(?<!{_IN_WORD})" if re.match(_IN_WORD, phrase) else ""
    after = f"(?!{_IN_WORD})" if re.match(_IN_WORD, phrase[-1]) else ""
    return [match.span() for match in re.finditer(before + re.escape(phrase) + after, caption, flags)]


def with_joined_phrases(record: OdvgRecord) -> tuple[OdvgRecord, list[tuple[Region, str]]]:
    """The record with its phrases as caption, "a cat . a dog .", as Open-GroundingDino's reader makes it.

    That reader shuffles the phrases at every visit; here they are in the order of the regions. The caption of the file,
    and spans in it, are given up.

    Returns:
        As of ``placed``; only phrases without a character have no place.
    """
    grounding = record.grounding
    if grounding is None or not grounding.regions:
        return record, []
    spans: dict[str, Span] = {}
    caption = ""
    for phrase in (phrase.strip() for region in grounding.regions for phrase in region.phrase):
        if phrase and phrase not in spans:
            spans[phrase] = len(caption), len(caption) + len(phrase)
            caption += f"{phrase} . "
    regions, misfits = [], []
    for region in grounding.regions:
        own = [spans[phrase.strip()] for phrase in region.phrase if phrase.strip()]
        if own:
            regions.append(region.model_copy(update={"tokens_positive": joined_spans(caption, own)}))
        else:
            misfits.append((region, BLANK))
    made = Grounding(caption=caption.rstrip() or grounding.caption, regions=tuple(regions))
    return record.model_copy(update={"grounding": made}), misfits


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
