"""Flickr30k Entities in its original format: ``Sentences/*.txt`` with marked phrases, ``Annotations/*.xml`` with boxes.

A sentence marks phrases as ``[/EN#283585/people A young boy]``: number of the coreference chain, one or more types,
words. Number 0 is ``notvisual``. An object of the XML belongs to one or more chains and has a box, or states that the
chain is the whole scene or has no box.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.files.documents import read_document
from ovd_bench.benchmarks.data.files.xml_documents import integer, read_xml
from ovd_bench.benchmarks.data.odvg.conversion import DUPLICATE, Conversion, check_target
from ovd_bench.benchmarks.data.odvg.records import Grounding, OdvgRecord, write_odvg
from ovd_bench.benchmarks.data.odvg.spans import BoxXyxy, Span, regions_by_span
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.metrics.errors import DataError

NOT_VISUAL = "phrases that mean nothing visible"
SCENE = "phrases of the whole scene"
NO_BOX = "phrases without a box"
EMPTY = "captions without a box"
#: Number of the chain of phrases that mean nothing visible.
NOTHING_VISIBLE = "0"

_MAX_BYTES = 1 << 20
_OPENING = re.compile(r"\[/EN#(\d+)((?:/[\w-]+)+)")

Progress = Callable[[int], None] | None


@dataclass(frozen=True)
class Phrase:
    """A marked phrase.

    Attributes:
        span: begin and end in the caption.
        chain: number of its coreference chain.
        types: of the entity, such as ``people``; one or more.
    """

    span: Span
    chain: str
    types: tuple[str, ...]


@dataclass(frozen=True)
class Boxes:
    """Annotations of an image.

    Attributes:
        width, height: size of the image in pixels.
        of_chain: boxes x0, y0, x1, y1 in pixels of every chain that has some, as in the authors' own reader: the file
            counts pixels from 1, so 1 is subtracted from all four.
        scenes: chains that refer to the whole scene.
    """

    width: int
    height: int
    of_chain: dict[str, list[BoxXyxy]]
    scenes: frozenset[str]


def convert_flickr30k(
    source: Path, target: Path, *, split: Path | None = None, progress: Progress = None
) -> Conversion:
    """Write every caption that has boxes, in the order of image numbers.

    Args:
        source: the folder with ``Sentences`` and ``Annotations``.
        target: the ODVG file.
        split: text file with the numbers of the wanted images, such as ``train.txt``; None = all.
        progress: called with numbers of images done.

    Raises:
        DataError: folders or files missing, or not in this format; names file and line.
    """
    report = Conversion(path=target, phrases=0)
    images = entity_images(source, split)
    if split is not None:
        check_target(split, target)
    write_odvg(target, report.counted(source, _records(source, images, report, progress)))
    report.sha256 = file_sha256(target)
    return report


def entity_images(source: Path, split: Path | None) -> list[str]:
    """Numbers of the images, in their order.

    Args:
        source: the folder with ``Sentences`` and ``Annotations``.
        split: text file with the numbers of the wanted images; None = all.

    Raises:
        DataError: folders or files missing, or no image.
    """
    for folder in ("Sentences", "Annotations"):
        if not (source / folder).is_dir():
            raise DataError(f"{source}: has no folder '{folder}': unpack annotations.zip of Flickr30k Entities there")
    images = _split(split) if split is not None else [path.stem for path in (source / "Sentences").glob("*.txt")]
    if not images:
        raise DataError(f"{split or source / 'Sentences'}: names no image")
    return sorted(images, key=lambda name: (len(name), name))


def _split(path: Path) -> list[str]:
    names = _text(path).split()
    for name in names:
        if not name.isascii() or not name.isdigit():
            raise DataError(f"{path}: '{printable(name[:40])}' is not the number of an image")
    return names


def _records(source: Path, images: list[str], report: Conversion, progress: Progress) -> Iterator[OdvgRecord]:
    for image in images:
        boxes = read_boxes(source / "Annotations" / f"{image}.xml")
        for caption, phrases in read_sentences(source / "Sentences" / f"{image}.txt"):
            pairs = list(_pairs(phrases, boxes, report))
            regions, duplicates = regions_by_span(caption, pairs)
            report.dropped[DUPLICATE] += duplicates
            if not regions:
                report.left_out[EMPTY] += 1
                continue
            grounding = Grounding(caption=caption, regions=regions)
            yield OdvgRecord(filename=f"{image}.jpg", height=boxes.height, width=boxes.width, grounding=grounding)
        if progress is not None:
            progress(1)


def _pairs(phrases: list[Phrase], boxes: Boxes, report: Conversion) -> Iterator[tuple[list[Span], BoxXyxy]]:
    for phrase in phrases:
        found = boxes.of_chain.get(phrase.chain, [])
        if not found:
            scene = phrase.chain in boxes.scenes
            report.dropped[NOT_VISUAL if phrase.chain == NOTHING_VISIBLE else SCENE if scene else NO_BOX] += 1
        for box in found:
            kept = report.clip(box, boxes.width, boxes.height)
            if kept is not None:
                yield [phrase.span], kept


def read_sentences(path: Path) -> list[tuple[str, list[Phrase]]]:
    """Captions of a file of ``Sentences``, with one blank between words, and their phrases.

    Raises:
        DataError: no such file, or a mark that is not as described above.
    """
    return [_sentence(path, number, line) for number, line in enumerate(_text(path).split("\n"), 1) if line.strip()]


def _sentence(path: Path, number: int, line: str) -> tuple[str, list[Phrase]]:
    words: list[str] = []
    length = 0  # of the caption up to here, with a blank at its end
    phrases: list[Phrase] = []
    opened: tuple[str, tuple[str, ...], int] | None = None  # chain, types and begin of the current phrase
    for word in line.split():
        if word.startswith("[/EN#"):
            mark = _OPENING.fullmatch(word)
            if mark is None or opened is not None:
                raise DataError(f"{path}: line {number}: '{printable(word[:40])}' is not the beginning of a phrase")
            opened = mark[1], tuple(mark[2].strip("/").split("/")), length
            continue
        closes = opened is not None and word.endswith("]")
        text = word[:-1] if closes else word
        if text:
            words.append(text)
            length += len(text) + 1
        if closes and opened is not None:
            chain, types, begin = opened
            if length == begin:
                raise DataError(f"{path}: line {number}: a phrase has no words")
            phrases.append(Phrase(span=(begin, length - 1), chain=chain, types=types))
            opened = None
    if opened is not None:
        raise DataError(f"{path}: line {number}: a phrase does not end")
    return " ".join(words), phrases


def read_boxes(path: Path) -> Boxes:
    """Boxes of a file of ``Annotations``.

    Raises:
        DataError: no such file, no XML, or a field that is missing or no number.
    """
    root = read_xml(path, "annotation of Flickr30k Entities")
    width, height = (integer(path, root, f"size/{name}", low=1) for name in ("width", "height"))
    of_chain: dict[str, list[BoxXyxy]] = {}
    scenes = set[str]()
    for item in root.findall("object"):
        chains = [name.text.strip() for name in item.findall("name") if name.text]
        if not chains:
            raise DataError(f"{path}: object: field 'name' is missing")
        if item.find("bndbox") is not None:
            corners = (integer(path, item, f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax"))
            x0, y0, x1, y1 = (float(corner - 1) for corner in corners)
            for chain in chains:
                of_chain.setdefault(chain, []).append((x0, y0, x1, y1))
        elif item.find("scene") is not None and integer(path, item, "scene"):
            scenes.update(chains)
    return Boxes(width=width, height=height, of_chain=of_chain, scenes=frozenset(scenes))


def _text(path: Path) -> str:
    try:
        return read_document(path, _MAX_BYTES, "text of Flickr30k Entities").decode()
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8") from None
