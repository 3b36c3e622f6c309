"""Positions of the elements of large arrays in a JSON document, without parsing it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from mmap import mmap
from pathlib import Path

from ovd_bench.metrics.errors import DataError

# A whole string, a bracket, or the quote of an unterminated string; possessive, so that it never backtracks.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{}]', re.DOTALL)
_ARRAY_FOLLOWS = re.compile(rb"\s*:\s*(?=\[)")


def array_elements(
    path: Path, data: bytes | mmap, keys: tuple[str, ...], max_bytes: int
) -> Iterator[tuple[str, int, int]]:
    """Key, begin and end of every element of the arrays under ``keys`` of a JSON object; each key must occur once.

    Only brackets and strings are scanned; elements are parsed by the caller, other keys are skipped.

    Args:
        path: for messages.
        data: the document, in memory or mapped.
        keys: keys of the arrays, which hold objects.
        max_bytes: maximum size of one element.

    Raises:
        DataError: no such document.
    """
    seen: list[str] = []
    key = ""  # the current array, if it is one of the requested
    depth = index = start = end = 0
    for token in _TOKEN.finditer(data):
        text = token[0]
        if text == b'"':
            break  # a string without end
        if text in (b"{", b"["):
            if depth == 0 and (text == b"[" or data[: token.start()].strip()):
                raise DataError(f"{path}: expected one JSON object with {' and '.join(keys)}")
            if depth == 2 and key:
                start = token.start()
                if data[end:start].strip() != (b"," if index else b""):
                    raise DataError(f"{path}: {key}[{index}]: expected an object")
            elif depth == 1 and key:
                end = token.end()
            depth += 1
        elif text in (b"}", b"]"):
            depth -= 1
            if depth == 2 and key:
                end = token.end()
                if end - start > max_bytes:
                    raise DataError(f"{path}: {key}[{index}]: longer than {max_bytes} bytes")
                yield key, start, end
                index += 1
            elif depth == 1 and key:
                if text == b"}" or data[end : token.start()].strip():
                    raise DataError(f"{path}: {key}[{index}]: expected an object")
                key = ""
            elif depth == 0:
                if text == b"]" or data[token.end() :].strip():
                    raise DataError(f"{path}: one JSON object is needed and nothing after it")
                break
        elif depth == 1 and text[1:-1].decode("latin-1") in keys and _ARRAY_FOLLOWS.match(data, token.end()):
            key, index = text[1:-1].decode(), 0
            if key in seen:
                raise DataError(f"{path}: {key}: appears twice")
            seen.append(key)
    if depth != 0 or not data:
        raise DataError(f"{path}: the JSON ends too early, is the file complete?")
    for name in keys:
        if name not in seen:
            raise DataError(f"{path}: {name}: a list is required")
