"""Memory that an Arrow IPC file needs when decoded, from its metadata before anything is decoded.

The footer lists the record batches and dictionaries; every compressed buffer starts with its length when decompressed
(Arrow columnar format, "IPC File Format" and "Buffer Compression"; the tables are flatbuffers, schemas File.fbs and
Message.fbs of the Arrow repository).
"""

from __future__ import annotations

import struct

from ovd_bench.metrics.errors import DataError

_MAGIC = b"ARROW1"


def decoded_bytes(data: memoryview) -> int:
    """Sum of the declared lengths of all compressed buffers of an Arrow IPC file; 0 for an uncompressed one.

    Raises:
        DataError: the file is cut off, or its metadata is damaged.
    """
    if bytes(data[-len(_MAGIC) :]) != _MAGIC or len(data) < 24:
        raise DataError("the Arrow IPC file has no end (truncated?)")
    try:
        return _decoded_bytes(data)
    except struct.error:
        raise DataError("the metadata of the Arrow IPC file is damaged") from None


def _decoded_bytes(data: memoryview) -> int:
    footer_end = len(data) - len(_MAGIC) - 4
    footer = _FlatbufferTable.root(data, footer_end - _unpack("<i", data, footer_end))
    total = visited = 0
    for slot, is_dictionary in ((2, True), (3, False)):
        for block in footer.vector(slot, 24):
            offset, metadata_length = _unpack("<q", data, block), _unpack("<i", data, block + 8)
            prefix = 8 if _unpack("<I", data, offset) == 0xFFFFFFFF else 4
            batch = _FlatbufferTable.root(data, offset + prefix).table(2)
            if batch is not None and is_dictionary:
                batch = batch.table(1)
            if batch is None or batch.table(3) is None:
                continue
            for buffer in batch.vector(2, 16):
                start, length = struct.unpack_from("<qq", data, buffer)
                if length >= 8:
                    total += max(0, _unpack("<q", data, offset + metadata_length + start))
                visited += 1
                if visited > len(data) // 16:  # overlapping batches could make this loop endless
                    raise struct.error
    return total


class _FlatbufferTable:
    """A flatbuffer table: its fields are found through a table of offsets, by slot number."""

    def __init__(self, data: memoryview, position: int) -> None:
        self._data, self._position = data, position
        self._slots = position - _unpack("<i", data, position)
        self._slots_bytes = _unpack("<H", data, self._slots)

    @staticmethod
    def root(data: memoryview, position: int) -> _FlatbufferTable:
        return _FlatbufferTable(data, position + _unpack("<I", data, position))

    def _target(self, slot: int) -> int | None:
        """Position that the offset in a slot refers to; None if the field is absent."""
        at = 4 + 2 * slot
        field = _unpack("<H", self._data, self._slots + at) if at < self._slots_bytes else 0
        return self._position + field + _unpack("<I", self._data, self._position + field) if field else None

    def table(self, slot: int) -> _FlatbufferTable | None:
        target = self._target(slot)
        return None if target is None else _FlatbufferTable(self._data, target)

    def vector(self, slot: int, item_bytes: int) -> range:
        """Positions of the structs of a vector."""
        target = self._target(slot)
        if target is None:
            return range(0)
        return range(target + 4, target + 4 + item_bytes * _unpack("<I", self._data, target), item_bytes)


def _unpack(code: str, data: memoryview, position: int) -> int:
    if position < 0:  # struct would count it from the end of the buffer
        raise struct.error
    value: int = struct.unpack_from(code, data, position)[0]
    return value
