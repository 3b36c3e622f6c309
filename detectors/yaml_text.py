"""YAML of users as plain values. A file may be hostile: no objects, no aliases, one line for any problem."""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Plain values only. Aliases are refused: a few lines of them stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not read", event.start_mark)
        return super().compose_node(parent, index)


def parse_yaml(text: str) -> Any:
    """The document in a YAML text.

    Raises:
        ValueError: not YAML, an alias, or a value that does not fit its tag; one line.
    """
    try:
        return yaml.load(text, _Loader)  # a subclass of SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        # The constructors of tags such as !!bool and !!timestamp raise these for a value that is none.
        raise ValueError(f"a value does not fit its tag: {type(error).__name__}: {error}"[:200]) from error
