"""YAML of users as plain values. A file may be hostile: no objects, limited size, one line for any problem."""

from __future__ import annotations

from typing import Any

import yaml

#: Values of a document, those that aliases stand for counted each time: a few lines of aliases stand for gigabytes.
MAX_VALUES = 1_000_000


def parse_yaml(text: str) -> Any:
    """The document in a YAML text.

    Raises:
        ValueError: not YAML, too many values, or a value that does not fit its tag; one line.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _values(node, {}) > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES:,} values, including those of aliases")
        return loader.construct_document(node)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        # The constructors of tags such as !!bool and !!timestamp raise these for a value that does not fit.
        raise ValueError(f"a value cannot be read: {type(error).__name__}: {error}"[:200]) from error


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """Number of values of a node with all that its aliases stand for; an alias inside itself counts as too many."""
    if id(node) not in known:
        known[id(node)] = MAX_VALUES + 1  # until it is counted
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]
