"""Where the images of an annotation file lie: at the paths that it gives, or under the same base name.

Labelling tools write paths of the machine that they ran on: backslashes, prefixes of a storage, URLs, ``..``. The files
themselves usually lie in one folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from ovd_bench.benchmarks.data.images import annotated_names, image_paths
from ovd_bench.benchmarks.data.match import ImageMatch
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import GroundTruth

#: How Label Studio's URLs name a file below the folder of its storage.
_LOCAL_FILE = re.compile(r"[?&]d=")


def located_paths(gt: GroundTruth, folder: Path, match: ImageMatch) -> list[str]:
    """Path of every image relative to the folder of the images, in the order of ``gt.image_ids``.

    The path of an image that is not found is kept, or is its base name; readers report it as missing.

    Args:
        gt: ground truth.
        folder: of the images. Links to other folders are not followed.
        match: how the images are found.

    Raises:
        DataError: an image without a name; or ``match`` is ``basename`` and two files, or two images, share a name.
    """
    if match == "path":
        return image_paths(gt)
    asked = [base_names(name) for name in annotated_names(gt)]
    found = _files(folder, {base for bases in asked for base in bases})
    chosen = [next((base for base in bases if base in found), bases[0]) for bases in asked]
    taken: dict[str, str] = {}
    for base, name in zip(chosen, annotated_names(gt), strict=True):
        if (first := taken.setdefault(base, name)) != name:
            raise DataError(f"images {first!r:.100} and {name!r:.100} have the same base name: --match path is needed")
        if len(files := found.get(base, [])) > 1:
            raise DataError(
                f"{folder}: {files[0]} and {files[1]} have the same base name: give the folder of one of them"
            )
    return [found[base][0] if base in found else base for base in chosen]


def base_names(name: str) -> tuple[str, ...]:
    """Base names of the file that an annotated name may mean, the likeliest first; at least one.

    Both kinds of slashes separate folders. A URL may also have a query and escapes such as ``%20``.
    """
    texts = [name]
    if local := _LOCAL_FILE.split(name, maxsplit=1)[1:]:
        texts = [*local, unquote(local[0])]
    elif "://" in name:
        path = re.split(r"[?#]", name, maxsplit=1)[0]
        texts = [name, path, unquote(path)]
    bases = [re.split(r"[/\\]", text)[-1] for text in texts]
    return tuple(dict.fromkeys(base for base in bases if base not in ("", ".", ".."))) or ("?",)


def base_name_there(folder: Path, names: Sequence[str]) -> bool:
    """Whether a file right in the folder has the base name of one of the annotated names."""
    return any((folder / base).is_file() for name in names for base in base_names(name))


def _files(folder: Path, wanted: set[str]) -> dict[str, list[str]]:
    """Base name -> sorted paths below the folder, of the wanted names that are there."""
    found: dict[str, list[str]] = {}
    for place, _, files in os.walk(folder):
        below = Path(place).relative_to(folder)
        for name in wanted.intersection(files):
            found.setdefault(name, []).append(str(below / name))
    return {name: sorted(paths) for name, paths in found.items()}
