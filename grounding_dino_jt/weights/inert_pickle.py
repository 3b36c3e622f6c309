"""Unpickling of checkpoints in which every object but tensors becomes an inert stand-in; nothing of the file runs.

``torch.load`` takes this module as its ``pickle_module``. Checkpoints of mmengine, Lightning and others hold, beside
the state dict, objects of their training: histories, optimisers, configurations, numbers of numpy. Of these only the
names are read: no class of theirs is imported and no function of theirs called.
"""

from __future__ import annotations

import pickle
import sys
from collections import OrderedDict
from pickle import UnpicklingError
from typing import Any

__all__ = ["Inert", "Unpickler", "UnpicklingError"]

#: What tensors are made of.
_TENSORS = ("_rebuild_parameter", "_rebuild_tensor_v2")
#: Modules of Python, and of its builtins the names, that training objects refer to. Others of Python are refused by
#: name: no checkpoint needs them, but a malicious one may.
_HARMLESS = {
    "_codecs",
    "argparse",
    "collections",
    "copyreg",
    "datetime",
    "decimal",
    "enum",
    "functools",
    "pathlib",
    "uuid",
}
_HARMLESS_BUILTINS = {
    *(
        "bool",
        "bytearray",
        "bytes",
        "complex",
        "dict",
        "float",
        "frozenset",
        "getattr",
        "int",
        "list",
        "object",
        "range",
    ),
    *("set", "slice", "str", "tuple"),
}


class Inert:
    """Stands for an object of the file, whatever is done to it while it is read.

    Attributes:
        origin: module and name of what it stands for.
    """

    origin = ""

    def __new__(cls, *args: object, **kwargs: object) -> Inert:
        """Take what the object would be made of."""
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Keep nothing of it."""

    def __call__(self, *args: object, **kwargs: object) -> Inert:
        """A method of the object would be called; this is one, too."""
        return self

    def __setstate__(self, state: object) -> None:
        """Keep nothing of it."""

    def __setitem__(self, key: object, value: object) -> None:
        """Keep nothing of it."""

    def append(self, value: object) -> None:
        """Keep nothing of it."""

    def extend(self, values: object) -> None:
        """Keep nothing of it."""

    def add(self, value: object) -> None:
        """Keep nothing of it."""


class Unpickler(pickle.Unpickler):
    """Makes tensors and containers; all else becomes ``Inert``."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """What a name of the file stands for.

        Raises:
            UnpicklingError: a part of Python itself that no checkpoint needs.
        """
        import torch

        origin = f"{module_name}.{global_name}"
        if origin == "collections.OrderedDict":
            return OrderedDict
        if module_name == "torch._utils" and global_name in _TENSORS:
            function = getattr(torch._utils, global_name)
            return lambda *args: function(*args)  # not the function itself: the file may set attributes of what it gets
        if module_name == "torch" and isinstance(found := getattr(torch, global_name, None), torch.dtype):
            return found
        root = module_name.partition(".")[0]
        if root in ("builtins", "__builtin__"):
            harmless = global_name in _HARMLESS_BUILTINS
        else:
            harmless = root not in sys.stdlib_module_names or root in _HARMLESS
        if not harmless:
            raise UnpicklingError(f"GLOBAL {origin} is refused")
        return type(global_name.rpartition(".")[2], (Inert,), {"origin": origin})
