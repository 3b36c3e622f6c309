"""Standard output and error: characters that they cannot show, readers that have gone, disks that are full."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import NoReturn

from rich.cells import cell_len

#: Exit code where the reader of the output has gone, as in ``bench list | head -1``: that of programs ended by SIGPIPE.
READER_GONE = 141

_HANDLER = "ovd_bench.shown"
#: What stands for signs of the suite's own tables on a terminal without them; each is as wide as its sign.
_STAND_INS = {"…": ".", "·": "-", "–": "-", "−": "-", "→": ">", "×": "x", "±": "~", "✓": "v", "✗": "x", "★": "*"}


def show_everything() -> None:
    """Replace what the output's encoding lacks by signs of the same width, so that tables keep their shape."""
    codecs.register_error(_HANDLER, _stand_in)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def speaks_unicode() -> bool:
    """Whether standard output takes every character."""
    return codecs.lookup(sys.stdout.encoding or "utf-8").name.startswith("utf-")


def print_document(text: str) -> None:
    """Print the text of a file: into a pipe or file as UTF-8 whatever the terminal speaks, as ``--write`` does."""
    if sys.stdout.isatty() or not isinstance(sys.stdout, io.TextIOWrapper):
        print(text, end="")
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode(errors="replace"))


def finish() -> None:
    """Write what is still in the buffer of standard output.

    Raises:
        OSError: it cannot be written.
    """
    try:
        sys.stdout.flush()
    except OSError:
        _drop_the_rest()
        raise


def reader_gone() -> NoReturn:
    """End silently: nobody reads the output any more."""
    _drop_the_rest()
    sys.exit(READER_GONE)


def _drop_the_rest() -> None:
    """Keep Python from trying again at its end, with a traceback."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            os.dup2(null, stream.fileno())


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(_STAND_INS.get(sign, "?" * cell_len(sign)) for sign in signs), error.end
