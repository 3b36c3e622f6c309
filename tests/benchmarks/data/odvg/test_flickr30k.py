"""Flickr30k Entities: sentences with marked phrases and boxes in XML, written by hand in the authors' format."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovd_bench.benchmarks.data.odvg.conversion import DUPLICATE, THIN
from ovd_bench.benchmarks.data.odvg.flickr30k import (
    EMPTY,
    NO_BOX,
    NOT_VISUAL,
    SCENE,
    convert_flickr30k,
    read_boxes,
    read_sentences,
)
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.data.odvg.read_odvg import read_odvg

SENTENCES = """\
[/EN#11/people A potter] lifts [/EN#12/other a jar] , [/EN#13/people/bodyparts a boy 's hand] holds [/EN#12/other it] .
[/EN#14/people Two people] enjoy [/EN#0/notvisual themselves] in [/EN#15/scene a workshop] with [/EN#16/other a wheel] .
[/EN#15/scene The workshop] is quiet
[/EN#11/people A potter] greets [/EN#13/people a potter]
"""
ANNOTATION = """\
<annotation>
	<filename>36.jpg</filename>
	<size>
		<width>500</width>
		<height>375</height>
		<depth>3</depth>
	</size>
	<object>
		<name>11</name>
		<name>14</name>
		<bndbox>
			<xmin>1</xmin>
			<ymin>21</ymin>
			<xmax>120</xmax>
			<ymax>375</ymax>
		</bndbox>
	</object>
	<object>
		<name>13</name>
		<name>14</name>
		<bndbox>
			<xmin>301</xmin>
			<ymin>41</ymin>
			<xmax>351</xmax>
			<ymax>91</ymax>
		</bndbox>
	</object>
	<object>
		<name>12</name>
		<bndbox>
			<xmin>200</xmin>
			<ymin>50</ymin>
			<xmax>200</xmax>
			<ymax>80</ymax>
		</bndbox>
	</object>
	<object>
		<name>12</name>
		<bndbox>
			<xmin>111</xmin>
			<ymin>101</ymin>
			<xmax>151</xmax>
			<ymax>161</ymax>
		</bndbox>
	</object>
	<object>
		<name>12</name>
		<bndbox>
			<xmin>111</xmin>
			<ymin>101</ymin>
			<xmax>151</xmax>
			<ymax>161</ymax>
		</bndbox>
	</object>
	<object>
		<name>15</name>
		<scene>1</scene>
		<nobndbox>0</nobndbox>
	</object>
	<object>
		<name>16</name>
		<scene>0</scene>
		<nobndbox>1</nobndbox>
	</object>
</annotation>
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, suffix, content in (("Sentences", "txt", SENTENCES), ("Annotations", "xml", ANNOTATION)):
        (tmp_path / "entities" / name).mkdir(parents=True)
        for image in (36, 9):
            (tmp_path / "entities" / name / f"{image}.{suffix}").write_text(content)
    return tmp_path / "entities"


def test_sentences(folder: Path) -> None:
    sentences = read_sentences(folder / "Sentences" / "36.txt")
    assert [caption for caption, _ in sentences] == [
        "A potter lifts a jar , a boy 's hand holds it .",
        "Two people enjoy themselves in a workshop with a wheel .",
        "The workshop is quiet",
        "A potter greets a potter",
    ]
    words = [[(caption[slice(*p.span)], p.chain) for p in phrases] for caption, phrases in sentences]
    assert words[0] == [("A potter", "11"), ("a jar", "12"), ("a boy 's hand", "13"), ("it", "12")]
    assert words[1][:2] == [("Two people", "14"), ("themselves", "0")]
    assert [p.span for p in sentences[3][1]] == [(0, 8), (16, 24)]


def test_boxes_count_pixels_from_one(folder: Path) -> None:
    boxes = read_boxes(folder / "Annotations" / "36.xml")
    assert (boxes.width, boxes.height) == (500, 375)
    assert boxes.of_chain["11"] == [(0, 20, 119, 374)]
    assert boxes.of_chain["14"] == [(0, 20, 119, 374), (300, 40, 350, 90)]
    assert boxes.scenes == {"15"}
    assert set(boxes.of_chain) == {"11", "12", "13", "14"}


def test_one_record_per_caption_with_boxes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("36\n")
    seen: list[int] = []
    report = convert_flickr30k(folder, tmp_path / "f.jsonl", split=tmp_path / "train.txt", progress=seen.append)
    records = list(read_odvg(tmp_path / "f.jsonl"))
    assert [(r.filename, r.width, r.height) for r in records] == [("36.jpg", 500, 375)] * 3
    found = []
    for record in records:
        assert record.grounding is not None
        caption = record.grounding.caption
        for region in record.grounding.regions:
            assert region.phrase == tuple(caption[b:e] for b, e in region.tokens_positive or ())
        found.append([(region.phrase[0], region.bbox) for region in record.grounding.regions])
    potter, hand, jar = (0, 20, 119, 374), (300, 40, 350, 90), (110, 100, 150, 160)
    assert found == [
        [("A potter", (potter,)), ("a jar", (jar,)), ("a boy 's hand", (hand,)), ("it", (jar,))],
        [("Two people", (potter, hand))],
        [("A potter", (potter,)), ("a potter", (hand,))],
    ]
    # the jar is mentioned twice: its box of no width, and the one that occurs twice, count for both
    assert +report.dropped == {NOT_VISUAL: 1, SCENE: 2, NO_BOX: 1, DUPLICATE: 2, "without area": 2}
    assert report.dropped[THIN] == 0
    assert report.left_out == {EMPTY: 1}
    assert (report.records, report.phrases, report.boxes, report.clipped) == (3, 7, 8, 0)
    assert report.label_map is None
    assert seen == [1]


def test_all_images_in_the_order_of_their_numbers(folder: Path, tmp_path: Path) -> None:
    convert_flickr30k(folder, tmp_path / "f.jsonl")
    assert [r.filename for r in read_odvg(tmp_path / "f.jsonl")] == ["9.jpg"] * 3 + ["36.jpg"] * 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[/EN#1/people A man", "a phrase does not end"),
        ("a [/EN#x/people man]", "not the beginning of a phrase"),
        ("a [/EN#1 man]", "not the beginning of a phrase"),
        ("[/EN#1/people A [/EN#2/people man] ]", "not the beginning of a phrase"),
        ("[/EN#1/people ] man", "a phrase has no words"),
    ],
)
def test_bad_sentences_are_named(folder: Path, tmp_path: Path, line: str, words: str) -> None:
    (folder / "Sentences" / "36.txt").write_text(f"a man\n{line}\n")
    with pytest.raises(DataError, match=rf"36\.txt: line 2: .*{words}"):
        convert_flickr30k(folder, tmp_path / "f.jsonl")
    assert not (tmp_path / "f.jsonl").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("</annotation>", "", "is not XML"),
        ("<width>500</width>", "", "field 'size/width' is ''"),
        ("<width>500</width>", "<width>0</width>", "out of range"),
        ("<xmin>1</xmin>", "<xmin>1.5</xmin>", "field 'bndbox/xmin' is '1.5'"),
        ("<xmin>1</xmin>", "<xmin>99999999999</xmin>", "out of range"),
        ("<name>16</name>", "", "field 'name' is missing"),
        ("<annotation>", '<?xml version="1.0" encoding="klingon"?><annotation>', "is not XML"),
        ("<annotation>", '<!DOCTYPE a [<!ENTITY b "&b;">]><annotation>&b;', "is not XML"),
    ],
)
def test_bad_annotations_are_named(folder: Path, old: str, new: str, words: str) -> None:
    path = folder / "Annotations" / "36.xml"
    path.write_text(ANNOTATION.replace(old, new))
    with pytest.raises(DataError, match=rf"36\.xml: .*{words}"):
        read_boxes(path)


def test_expanding_entities_and_depth_are_refused(folder: Path) -> None:
    path = folder / "Annotations" / "36.xml"
    entities = '<!ENTITY e0 "laughs">' + "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 20}">' for i in range(1, 10))
    path.write_text(f"<!DOCTYPE a [{entities}]><annotation>&e9;</annotation>")
    with pytest.raises(DataError, match="is not XML"):
        read_boxes(path)
    path.write_text("<a>" * 150_000 + "</a>" * 140_000)
    with pytest.raises(DataError, match="is not XML"):
        read_boxes(path)
    path.write_text("x" * 2_000_000)
    with pytest.raises(DataError, match="larger than"):
        read_boxes(path)


def test_what_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.txt"
    for text, words in (
        ("36\n7\n", r"7\.xml: cannot be read"),
        ("a.jpg", "'a.jpg' is not the number"),
        ("", "no image"),
    ):
        split.write_text(text)
        with pytest.raises(DataError, match=words):
            convert_flickr30k(folder, tmp_path / "f.jsonl", split=split)
    with pytest.raises(DataError, match="has no folder 'Sentences'"):
        convert_flickr30k(tmp_path, tmp_path / "f.jsonl")
    (folder / "Sentences" / "36.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="is not UTF-8"):
        convert_flickr30k(folder, tmp_path / "f.jsonl")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_files_are_converted_or_reported_in_one_line(folder: Path, tmp_path: Path, data: st.DataObject) -> None:
    for name, original in (("Sentences/36.txt", SENTENCES), ("Annotations/36.xml", ANNOTATION)):
        content = bytearray(original.encode())
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=6))
        (folder / name).write_bytes(content)
    try:
        convert_flickr30k(folder, tmp_path / "f.jsonl")
    except DataError as error:
        problem = str(error)
        assert problem.isprintable(), problem
    else:
        assert list(read_odvg(tmp_path / "f.jsonl"))
