"""Messages on unknown names, with the nearest known one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def unknown_name(said: str, name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The message on a name that is not known: "no detector 'owl-nanoo': did you mean 'owl-nano'?".

    Args:
        said: begins the message: ``no detector 'owl-nanoo'``.
        name: as given.
        known: the names that exist.
        otherwise: ends the message if no known name is near; empty = the list of the known names.

    Returns:
        One line. Near are the most similar name or, if none is similar, up to three that contain the given one; upper
        and lower case do not matter.
    """
    folded = {other.casefold(): other for other in known}
    wanted = name.strip().casefold()
    near = get_close_matches(wanted, folded, n=1)
    if not near and wanted:
        near = [other for other in folded if wanted in other][:3]
    names = " or ".join(f"'{folded[other]}'" for other in near)
    return f"{said}: " + (
        f"did you mean {names}?" if near else otherwise or f"choose from {', '.join(folded.values())}"
    )
