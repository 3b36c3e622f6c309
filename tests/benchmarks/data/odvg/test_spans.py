"""Where phrases stand: whole words, n-th region at the n-th occurrence, joined spans."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovd_bench.benchmarks.data.odvg.records import Grounding, OdvgRecord, Region
from ovd_bench.benchmarks.data.odvg.spans import joined_spans, regions_by_span, with_spans
from ovd_bench.metrics.errors import DataError

BOX = (0.0, 0.0, 5.0, 5.0)


def _record(caption: str, *regions: Region) -> OdvgRecord:
    return OdvgRecord(filename="a.jpg", height=9, width=9, grounding=Grounding(caption=caption, regions=regions))


def _found(caption: str, *phrases: str | tuple[str, ...]) -> list[list[str]]:
    """``begin:words`` of every region's spans."""
    names = [(phrase,) if isinstance(phrase, str) else phrase for phrase in phrases]
    record = with_spans(_record(caption, *(Region(bbox=(BOX,), phrase=name) for name in names)))
    assert record.grounding is not None
    assert [region.phrase for region in record.grounding.regions] == names
    spans = [region.tokens_positive or () for region in record.grounding.regions]
    return [[f"{begin}:{caption[begin:end]}" for begin, end in row] for row in spans]


@pytest.mark.parametrize(
    ("caption", "phrases", "expected"),
    [
        ("a carrot in a car", ["car"], [["14:car"]]),
        ("a man greets a man", ["a man", "a man"], [["0:a man"], ["13:a man"]]),
        ("a man greets a man", ["a man"], [["0:a man"]]),
        ("two dogs run", ["two dogs", "two dogs"], [["0:two dogs"], ["0:two dogs"]]),
        ("a man, a man", ["a man"] * 3, [["0:a man"]] * 3),
        ("A man greets a man", ["a man", "A man"], [["13:a man"], ["0:A man"]]),
        ("A man greets a man", ["a man", "a man"], [["0:A man"], ["13:a man"]]),
        ("A Kite", ["a kite"], [["0:A Kite"]]),
        ("a man 's hat, a woman", ["'s hat", " a woman "], [["6:'s hat"], ["14:a woman"]]),
        ("a man (old) sits", ["(old)"], [["6:(old)"]]),
        ("c++ and c", ["c", "c++"], [["0:c"], ["0:c++"]]),
        ("ein größeres Haus, ein Haus", ["Haus", "größeres"], [["13:Haus"], ["4:größeres"]]),
        ("İ a man", ["A MAN"], [["2:a man"]]),
        ("a man and a dog", [("a dog", "a man")], [["0:a man", "10:a dog"]]),
        ("a red kite", [("red", "kite")], [["2:red kite"]]),
        ("女人抱着一只猫", ["猫", "女人"], [["6:猫"], ["0:女人"]]),
        ("女人抱着一只猫 (cat) next to 猫", ["猫", "(cat)", "猫"], [["6:猫"], ["8:(cat)"], ["22:猫"]]),
        ("一辆car在cars旁边", ["car"], [["2:car"]]),
        ("ช้างตัวใหญ่", ["ตัว"], [["4:ตัว"]]),
    ],
)
def test_phrases_are_found(caption: str, phrases: list[str], expected: list[list[str]]) -> None:
    assert _found(caption, *phrases) == expected


@pytest.mark.parametrize("phrase", ["car", "carrots", " ", "a  carrot", "rot", "carrot_"])
def test_what_is_not_there_is_named(phrase: str) -> None:
    with pytest.raises(DataError, match=r"phrase '.*' is not in the caption: 'a carrot'") as caught:
        _found("a carrot", phrase)
    assert "\n" not in str(caught.value)


def test_endless_captions_are_refused() -> None:
    with pytest.raises(DataError, match="200,000 characters"):
        _found("a" * 200_000, "a")


def test_records_with_spans_stay_as_they_are() -> None:
    record = _record("a b", Region(bbox=(BOX,), phrase=("zzz",), tokens_positive=((0, 1),)))
    assert with_spans(record) is record
    record = _record("a b", *(record.grounding.regions if record.grounding else ()), Region(bbox=(BOX,), phrase=("b",)))
    changed = with_spans(record)
    assert changed.grounding is not None
    assert [region.tokens_positive for region in changed.grounding.regions] == [((0, 1),), ((2, 3),)]


def test_spans_are_joined() -> None:
    caption = "the old man, old"
    assert joined_spans(caption, [(8, 11), (0, 3), (4, 7), (13, 16)]) == ((0, 11), (13, 16))
    assert joined_spans(caption, [(0, 7), (2, 5), (7, 8)]) == ((0, 8),)
    assert joined_spans(caption, []) == ()


@given(st.text(alphabet="ab ", min_size=12, max_size=12), st.lists(st.tuples(st.integers(0, 5), st.integers(6, 12))))
def test_joined_spans_cover_the_same_letters(caption: str, spans: list[tuple[int, int]]) -> None:
    joined = joined_spans(caption, spans)

    def covered(spans: list[tuple[int, int]]) -> set[int]:
        return {i for begin, end in spans for i in range(begin, end)}

    added = covered(list(joined)) - covered(spans)
    assert covered(spans) <= covered(list(joined))
    assert all(caption[i] == " " for i in added)
    assert joined_spans(caption, joined) == joined


def test_boxes_are_gathered_by_span_not_by_words() -> None:
    caption = "a man and a man"
    other = (1.0, 1.0, 2.0, 2.0)
    rows = [([(10, 15)], BOX), ([(0, 1), (2, 5)], BOX), ([(0, 5)], other), ([(0, 5)], BOX)]
    regions, duplicates = regions_by_span(caption, rows)
    assert [(region.phrase, region.tokens_positive, region.bbox) for region in regions] == [
        (("a man",), ((10, 15),), (BOX,)),
        (("a man",), ((0, 5),), (BOX, other)),
    ]
    assert duplicates == 1
