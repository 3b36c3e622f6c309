"""Pickles of lists, dictionaries, texts and numbers, read without running anything of the file.

A pickle is a program: it may import and call. So its operations are looked at first, and a file with any that could
import, call, or take more memory than the file is long is refused; only then it is read.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

from ovd_bench.benchmarks.data.files.documents import read_document
from ovd_bench.metrics.errors import DataError

MAX_BYTES = 64 * 2**20
#: Operations that make plain values. Tuples are not among them: as a key, a deeply nested one ends the program.
_PLAIN = {
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "MEMOIZE"),
    *("PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET"),
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("FLOAT", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "EMPTY_LIST", "APPEND", "APPENDS", "LIST"),
    *("EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
}
_MEMO = ("PUT", "BINPUT", "LONG_BINPUT")
#: What operations in a wrong order raise.
_WRONG = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"{module_name}.{global_name}")  # a second lock on the same door


def read_plain_pickle(path: Path) -> Any:
    """The value of a pickle.

    Raises:
        DataError: no such file, no pickle, or one with other values, such as arrays; says how to convert it.
    """
    data = read_document(path, MAX_BYTES, "pickle")
    try:
        if not (foreign := _foreign(data)):
            return _Unpickler(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, EOFError, *_WRONG) as error:
        raise DataError(f"{path}: is no pickle: {str(error)[:80]!a}") from None
    raise DataError(
        f"{path}: has more than lists, dictionaries, texts and numbers ({foreign}), which could run code of the file: "
        f"where you trust it, write its content as {path.stem}.json beside it"
    )


def _foreign(data: bytes) -> str:
    """Name of the first operation that makes no plain value; empty if there is none.

    Raises:
        ValueError: no pickle.
    """
    for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if operation.name not in _PLAIN:
            return operation.name
        if operation.name in _MEMO and argument is not None and int(argument) > count:
            raise ValueError("an entry far behind the last one")  # the table would get as long as its number says
    return ""
