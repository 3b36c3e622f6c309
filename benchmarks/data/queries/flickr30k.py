"""Flickr30k Entities: the phrases of captions, each asked with its place in the caption.

Read are the authors' folder (BryanPlummer/flickr30k_entities; see ``benchmarks.data.odvg.flickr30k``), whose entity
types become kinds, and the documents of MDETR, ``final_flickr_separateGT_test.json``, which have no types and in which
boxes of IoU >= 0.95 are joined. A phrase that means nothing visible, the whole scene, or something without a box is not
scored, as in the authors' protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from ovd_bench.benchmarks.data.files.grounding import FOREIGN, EvaluationCaption, Pixels, mdetr_phrases
from ovd_bench.benchmarks.data.files.queries import QueryLine
from ovd_bench.benchmarks.data.odvg.flickr30k import NOTHING_VISIBLE, entity_images, read_boxes, read_sentences
from ovd_bench.benchmarks.data.queries.conversion import QueryConversion
from ovd_bench.metrics.errors import DataError

Progress = Callable[[int], None] | None


@dataclass(config=FOREIGN, slots=True, kw_only=True)
class _Caption(EvaluationCaption):
    file_name: str
    width: Pixels
    height: Pixels


def convert_flickr30k_queries(
    source: Path, target: Path, *, split: Path | None = None, progress: Progress = None
) -> QueryConversion:
    """Write the phrases of all captions.

    Args:
        source: the folder with ``Sentences`` and ``Annotations``, or a document of MDETR.
        target: the file of queries.
        split: text file with the numbers of the wanted images, such as ``test.txt``; only for the folder.
        progress: called with numbers of images done.

    Raises:
        DataError: files missing, or not in this format.
    """
    if split is not None and not source.is_dir():
        raise DataError(f"{source}: has one split: --split is for the folder of Flickr30k Entities")
    report = QueryConversion(target)
    lines = _entities(source, split, report, progress) if source.is_dir() else _document(source, report)
    return report.write([source if split is None else split], lines)


def _entities(source: Path, split: Path | None, report: QueryConversion, progress: Progress) -> Iterator[QueryLine]:
    for image in entity_images(source, split):
        if not image.isascii() or not image.isdigit() or len(image) > 18:
            raise DataError(f"{source}: Sentences/{image[:40]!a}.txt is not named by the number of an image")
        annotation = source / "Annotations" / f"{image}.xml"
        boxes = read_boxes(annotation)
        for caption, phrases in read_sentences(source / "Sentences" / f"{image}.txt"):
            for phrase in phrases:
                corners = boxes.of_chain.get(phrase.chain, [])
                kinds = [] if phrase.chain == NOTHING_VISIBLE else list(dict.fromkeys(phrase.types))
                yield from report.line(
                    str(annotation), image_id=int(image), file_name=f"{image}.jpg", width=boxes.width,
                    height=boxes.height, text=caption, spans=[phrase.span], kinds=kinds,
                    boxes=report.usable((x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in corners),
                )  # fmt: skip
        if progress is not None:
            progress(1)


def _document(source: Path, report: QueryConversion) -> Iterator[QueryLine]:
    for caption, spans, boxes in mdetr_phrases(source, TypeAdapter(_Caption)):
        yield from report.line(
            f"{source}: caption {caption.id}", image_id=caption.image(), file_name=caption.file_name,
            width=caption.width, height=caption.height, text=caption.caption, spans=sorted(set(spans)), boxes=boxes,
        )  # fmt: skip
