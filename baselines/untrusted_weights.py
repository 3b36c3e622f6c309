"""Weights folders of unknown origin: sizes bounded, tensors mapped, networks measured before anything is allocated.

A configuration of a few hundred bytes may ask for any network, and a small pickle may hold a view of any size. Whoever
builds a network from such files checks the configuration first (``check_sizes``), maps the tensors
(``mapped_tensors``), builds it on the device ``meta``, which allocates nothing (``planned``), and compares.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

#: The largest number in a configuration: a vocabulary, a width, a number of positions.
LARGEST_SIZE = 1 << 20
#: The most layers of a kind; published detectors have up to 48.
MOST_LAYERS = 256
#: Names of fields that count layers, or what is built once per entry.
_LAYERS = re.compile(r"(^|_)(layers?|depths?|blocks?|stages?|levels|points|repeats?)$")
#: A network with more classes than this is not a detector, and transformers writes a name for each of them at once.
_MOST_CLASSES = 1 << 16
#: Bytes of computed tables that no file holds, such as masks and the places in a window; the largest known have 20 MB.
_MOST_BUFFERS = 256 << 20

_M = TypeVar("_M", bound=nn.Module)


def check_sizes(document: Any, place: str = "") -> None:
    """Refuse a configuration with a number that no network has.

    Args:
        document: decoded JSON.
        place: its field, for messages.

    Raises:
        ValueError: a number of layers above ``MOST_LAYERS``, another one above ``LARGEST_SIZE``, or one that is not
            finite; names the field.
    """
    if isinstance(document, dict):
        for name, value in document.items():
            check_sizes(value, f"{place}.{name}" if place else name)
    elif isinstance(document, list):
        for value in document:
            check_sizes(value, place)
    elif isinstance(document, int | float):
        field = place.rpartition(".")[2]
        most = MOST_LAYERS if _LAYERS.search(field) else _MOST_CLASSES if field == "num_labels" else LARGEST_SIZE
        if isinstance(document, int) and abs(document) > most:
            raise ValueError(f"{place} is {str(document)[:30]}, at most {most} is possible")
        if not math.isfinite(document):
            raise ValueError(f"{place} is {document}, a finite number is needed")


def mapped_tensors(file: Path) -> dict[str, Tensor]:
    """Tensors of a file by name. Their numbers stay in the file until they are read.

    Args:
        file: ``.safetensors``, or a state dict that ``torch.save`` wrote; nothing in it is executed.

    Raises:
        ValueError: a damaged file, one that holds something else, or tensors that claim to be larger than the file.
    """
    try:
        if file.suffix == ".safetensors":
            with safetensors.safe_open(file, "pt") as opened:
                content: Any = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
        else:
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=_is_archive(file))
    except Exception as error:  # the parsers do not document the exceptions for broken files
        raise ValueError(f"{file}: the weights do not load: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided
        for name, value in content.items()
    ):
        raise ValueError(f"{file}: the weights do not load: a dictionary of tensors is needed")
    check_claims(file, content)
    return content


def check_claims(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are views of far fewer numbers, as pickles may hold.

    Raises:
        ValueError: together they are larger than two files: a tensor may be in the file once and have several names.
    """
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > 2 * file.stat().st_size:
        raise ValueError(f"{file}: the weights do not load: its tensors claim to be larger than the file")


def planned(build: Callable[[], _M], tensors: int) -> _M:
    """A network on the device ``meta``: names and shapes, no numbers.

    Args:
        build: makes the network.
        tensors: how many its files hold. Many more parameters than that are not built.

    Raises:
        ValueError: far more parameters than tensors, or tables too large for any detector; and whatever ``build``
            raises.
    """
    with _at_most(16 * tensors + 1024, tensors), torch.device("meta"):
        network = build()
    tables = sum(buffer.numel() * buffer.element_size() for buffer in network.buffers())
    if tables > _MOST_BUFFERS:
        raise ValueError(f"its configuration asks for tables of {tables >> 20} MB, which no detector has")
    return network


@contextmanager
def _at_most(most: int, tensors: int) -> Iterator[None]:
    """Stop a construction at a number of parameters and modules: it would go on for hours, and is refused anyway."""
    count = 0

    def one_more(*_: object) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise ValueError(f"its configuration asks for far more layers than its {tensors} tensors can fill")

    hooks = (
        register_module_parameter_registration_hook(one_more),
        register_module_module_registration_hook(one_more),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_archive(file: Path) -> bool:
    """Whether torch 1.6 or newer wrote the file.

    Raises:
        ValueError: a compressed archive. Torch writes none, and it may grow to any size.
    """
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("refused, a compressed archive")
    return True
