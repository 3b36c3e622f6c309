"""Code of other people runs in this process: it may raise anything, end the program, or hand over something else.

``third_party`` turns all of that into a ``DetectorError`` of one line that says where it came from.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

from pydantic import TypeAdapter, ValidationError

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.extras import missing_package
from ovd_bench.detectors.types import DetectorError

_end_process = os._exit
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


@contextmanager
def third_party(what: str) -> Iterator[None]:
    """Errors and exits of the block as a ``DetectorError``; Ctrl-C passes.

    Args:
        what: beginning of the message, such as the file that is imported.
    """
    _keep_running()
    try:
        yield
    except (DetectorError, KeyboardInterrupt):
        raise
    except ModuleNotFoundError as error:
        raise DetectorError(f"{what}: {missing_package(error) or described(error)}") from error
    except BaseException as error:  # SystemExit and GeneratorExit, too
        raise DetectorError(f"{what}: {described(error)}") from error


def described(error: BaseException) -> str:
    """Kind, message, and the file and line that raised it, in one line."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    words = " ".join(str(error).split())[:500]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    # The line in somebody's own file says more than one in a package that it calls.
    frames = [frame for frame in frames if "site-packages" not in Path(frame.filename).parts] or frames
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {words}{place}"


def checked_card(card: object, what: str) -> DetectorCard:
    """A card whose fields have the declared types and whose name can be printed and can be a folder.

    Args:
        card: what was given as one.
        what: beginning of the message.

    Raises:
        DetectorError: not a card, a field of another type, or another name.
    """
    if not isinstance(card, DetectorCard):
        raise DetectorError(f"{what}: is not a detectors.card.DetectorCard")
    fields: dict[str, Any] = {}
    for name, kind in get_type_hints(DetectorCard).items():
        with third_party(what):  # a subclass may do anything when its fields are read
            value = getattr(card, name)
        try:
            fields[name] = TypeAdapter(kind).validate_python(value, strict=True)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise DetectorError(f"{what}: card: {name}: {problem[:1].lower()}{problem[1:]}") from None
    if not _NAME.fullmatch(fields["name"]):
        raise DetectorError(f"{what}: card: name {fields['name']!r:.100}: expected letters, digits and . _ + -")
    return DetectorCard(**fields)


def _keep_running() -> None:
    """From now on ``os._exit`` raises in this process; children that others fork may still call it."""
    owner = os.getpid()

    def refuse(status: int) -> NoReturn:
        if os.getpid() != owner:
            _end_process(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = refuse
