"""Editing of annotation files record by record: kept records are unchanged bytes; only the text is in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from ovd_bench.benchmarks.data.files.atomic import atomic_write, content_kind
from ovd_bench.metrics.errors import DataError

#: Result of an edit: the text of the record, another text, or None to leave it out.
Edit = Callable[[dict[str, Any], str], str | None]

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODE = json.JSONDecoder().raw_decode


class JsonDocument:
    """A JSON object some of whose values are lists of records.

    Args:
        path: the file; reading it takes about twice its size in memory, LVIS v1 val 0.4 GB.

    Raises:
        DataError: not a JSON file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if (kind := content_kind(path)) != "JSON":
            raise DataError(f"{path}: an annotation file is JSON, this is {kind}")
        try:
            self._text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise DataError(f"{path}: is not UTF-8") from None

    def visit(self, key: str, visitor: Callable[[dict[str, Any]], None]) -> None:
        """Call the visitor with every record of a list.

        Raises:
            DataError: not a JSON object, no such list, or a record that is not an object; or raised by the visitor.
        """

        def look(record: dict[str, Any], text: str) -> str:
            visitor(record)
            return text

        for _ in self._edited({key: look}):
            pass

    def write(self, target: Path, edits: dict[str, Edit]) -> None:
        """Write a copy atomically, with every record of some lists passed through an edit.

        Raises:
            DataError: as :meth:`visit`; or ``target`` is the file itself.
        """
        if target.exists() and self._path.samefile(target):
            raise DataError(f"{target}: is the file that is read: choose another name for the output")
        with atomic_write(target) as file:
            for piece in self._edited(edits):
                file.write(piece.encode())

    def _edited(self, edits: dict[str, Edit]) -> Iterator[str]:
        seen = set()
        try:
            for key, piece in _pieces(self._text, edits):
                seen.add(key)
                yield piece
            if missing := sorted(set(edits) - seen):
                raise DataError(f"section '{missing[0]}' is missing")
        except json.JSONDecodeError as error:
            raise DataError(f"{self._path}: line {error.lineno}, column {error.colno}: {error.msg}") from None
        except RecursionError:
            raise DataError(f"{self._path}: is nested too deeply") from None
        except DataError as error:
            raise DataError(f"{self._path}: {error}") from None


def _pieces(text: str, edits: dict[str, Edit]) -> Iterator[tuple[str, str]]:
    """The new document in pieces, each with the key that it belongs to."""
    index = _expect(text, 0, "{")
    yield "", "{"
    separator = "\n"
    while text[index : index + 1] != "}":
        key, index = _DECODE(text, index)
        if not isinstance(key, str):
            raise json.JSONDecodeError("Expecting a key", text, index)
        index = _expect(text, index, ":")
        yield key, f"{separator}{json.dumps(key)}:"
        separator = ",\n"
        if key in edits:
            index = yield from _edited(text, index, key, edits[key])
        else:
            end = _end(text, index)
            yield key, text[index:end]
            index = end
        index = _space(text, index)
        if text[index : index + 1] == ",":
            index = _space(text, index + 1)
        elif text[index : index + 1] != "}":
            raise json.JSONDecodeError("Expecting ',' or '}'", text, index)
    if _space(text, index + 1) != len(text):
        raise json.JSONDecodeError("Extra data", text, index + 1)
    yield "", "}\n"


def _edited(text: str, index: int, key: str, edit: Edit) -> Generator[tuple[str, str], None, int]:
    """The list at ``index`` after the edit; returns where it ends."""
    index = _expect(text, index, "[")
    yield key, "["
    separator, number = "", 0
    while text[index : index + 1] != "]":
        record, end = _DECODE(text, index)
        if not isinstance(record, dict):
            raise DataError(f"{key} record {number}: is not an object")
        try:
            kept = edit(record, text[index:end])
        except DataError as error:
            raise DataError(f"{key} record {number}: {error}") from None
        if kept is not None:
            yield key, separator + kept
            separator = ","
        number += 1
        index = _next(text, end)
    yield key, "]"
    return index + 1


def _end(text: str, index: int) -> int:
    """End of the value at ``index``; one element of a list is in memory at a time."""
    if text[index : index + 1] != "[":
        return _DECODE(text, index)[1]
    index = _space(text, index + 1)
    while text[index : index + 1] != "]":
        index = _next(text, _DECODE(text, index)[1])
    return index + 1


def _next(text: str, index: int) -> int:
    """Move from the end of an element of a list to the next one, or to the end of the list."""
    index = _space(text, index)
    if text[index : index + 1] == ",":
        return _space(text, index + 1)
    if text[index : index + 1] != "]":
        raise json.JSONDecodeError("Expecting ',' or ']'", text, index)
    return index


def _space(text: str, index: int) -> int:
    found = _SPACE.match(text, index)
    return found.end() if found else index


def _expect(text: str, index: int, character: str) -> int:
    index = _space(text, index)
    if text[index : index + 1] != character:
        raise json.JSONDecodeError(f"Expecting '{character}'", text, index)
    return _space(text, index + 1)
