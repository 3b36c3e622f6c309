"""Small XML documents of untrusted origin."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from ovd_bench.benchmarks.data.files.documents import read_document
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.metrics.errors import DataError

Element = ElementTree.Element

_MAX_BYTES = 1 << 20


def read_xml(path: Path, kind: str) -> Element:
    """The root element of a document of at most 1 MiB; the parser limits the growth by entities and reads no others.

    Args:
        path: the file.
        kind: expected kind, such as ``annotation of Flickr30k Entities``.

    Raises:
        DataError: no such file, too large, or no XML.
    """
    text = read_document(path, _MAX_BYTES, kind)
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two are of its encoding
        raise DataError(f"{path}: is not XML: {printable(str(error)[:80])}") from None


def integer(path: Path, parent: Element, name: str, low: int = -(2**31)) -> int:
    """The integer in a field.

    Raises:
        DataError: missing, no integer, below ``low`` or not of 32 bits.
    """
    text = (parent.findtext(name) or "").strip()
    try:
        value = int(text[:20])
    except ValueError:
        raise DataError(f"{path}: field '{name}' is '{printable(text[:20])}', an integer is needed") from None
    if not low <= value < 2**31:
        raise DataError(f"{path}: field '{name}' is {value}, which is out of range")
    return value
