"""Notes on differences between rows of one table, and on missing records."""

from __future__ import annotations

from collections.abc import Sequence

from ovd_bench.benchmarks.store.schema import ProtocolInfo, Result


def provenance_notes(protocol: ProtocolInfo, names: Sequence[str], results: Sequence[Result]) -> list[str]:
    """One line per kind of difference.

    Rows on other pixels stay in the table with a note, because even another version of a decoder gives other pixels.
    Rows of other versions are never in one table, because the versions are in the hash of the protocol.

    Args:
        protocol: protocol of the table.
        names: names of n rows, best first.
        results: their results.
    """
    notes = []
    if protocol.versions is None:
        notes.append(
            "warning: made before versions of cleaning, selection and scorer were recorded: not comparable with newer "
            "rows until they are run again"
        )
    pixels = [result.run.pixels_sha256 for result in results]
    without = [name for name, one in zip(names, pixels, strict=True) if one is None]
    if len(without) == len(names):
        notes.append("made before pixels were hashed: whether the rows saw the same images is not known")
    elif without:
        notes.append(f"made before pixels were hashed: {', '.join(without)}; whether on the same images is not known")
    known = list(dict.fromkeys(one for one in pixels if one is not None))
    if len(known) > 1:
        groups = [
            f"{', '.join(name for name, one in zip(names, pixels, strict=True) if one == sha256)} ({sha256[:8]})"
            for sha256 in known
        ]
        notes.append(
            "warning: the rows were made from different pixels (images encoded, resized or decoded otherwise): "
            + "; ".join(groups)
        )
    return notes
