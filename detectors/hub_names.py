"""Names of models on the Hugging Face hub: ``owner/name``, or ``owner/name@revision`` for a branch, tag or commit."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>\w[\w./-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubName:
    """A repository of the hub, and which state of it.

    Attributes:
        repository: ``owner/name``.
        revision: branch, tag or commit; None = the newest.
    """

    repository: str
    revision: str | None = None

    @staticmethod
    def of(source: str) -> HubName | None:
        """The name in a text; None for any other text."""
        match = _NAME.fullmatch(source)
        return None if match is None else HubName(match["repository"], match["revision"])

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"

    @property
    def commit(self) -> str | None:
        """The revision if it is a commit, which always names the same files."""
        return self.revision if self.revision and _COMMIT.fullmatch(self.revision) else None


def commit_of(source: str) -> str | None:
    """The commit in the source of weights; None if they are not from the hub, or their commit is not known."""
    name = HubName.of(source)
    return None if name is None else name.commit


def is_commit(name: str) -> bool:
    """Whether a text is the hash of a commit."""
    return _COMMIT.fullmatch(name) is not None
