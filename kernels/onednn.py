"""Puts oneDNN where Jittor looks for it, so that Jittor does not download it.

Jittor 1.3.11 computes convolutions and matrix products with oneDNN 2.2. Without it they take a hundred times as long.
The package ``onednn-devel-cpu-gomp`` is the same build that Jittor would download from its own server.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import shutil
from importlib import metadata
from pathlib import Path

#: Folder below Jittor's cache that is used when ``lib/libmkldnn.so`` is in it.
FOLDER = "mkl/dnnl_lnx_2.2.0_cpu_gomp"

_HEADERS, _LIBRARY = "onednn-devel-cpu-gomp", "onednn-cpu-gomp"

#: Attempts to replace a folder while other processes replace it too.
_TRIES = 20


def supported() -> bool:
    """Whether there is a package of oneDNN for this processor."""
    return platform.machine() in ("x86_64", "AMD64")


def installed() -> str | None:
    """Version of the package, or None."""
    try:
        metadata.version(_LIBRARY)
        return metadata.version(_HEADERS)
    except metadata.PackageNotFoundError:
        return None


def place(cache: Path) -> None:
    """Make ``cache/mkl/…`` contain links to the headers and the library of the installed package.

    The links are in a folder with a unique name. The name that Jittor reads is a link to that folder and is replaced
    atomically. So links into a deleted environment are repaired, and two processes can do this at once. A folder that
    Jittor downloaded itself is left unchanged.

    Raises:
        FileNotFoundError: the package is not installed, or files of it are missing.
    """
    target = cache / FOLDER
    if _complete(target):
        return
    sources = _sources()
    key = hashlib.sha256("\0".join(map(str, sources.values())).encode()).hexdigest()[:8]
    folder = target.parent / f"onednn-{key}"
    if not _complete(folder):
        _link_all(sources, folder)
    if target.is_dir() and not target.is_symlink():
        target.rename(target.with_name(f"broken-{secrets.token_hex(4)}"))  # an interrupted download of Jittor's
    new = target.with_name(f"link-{secrets.token_hex(4)}")
    new.symlink_to(folder.name)
    new.replace(target)


def _complete(folder: Path) -> bool:
    # Programs are linked with one name of the library and load the other.
    return all((folder / name).exists() for name in ("include/mkldnn.hpp", "lib/libmkldnn.so", "lib/libdnnl.so.2"))


def _sources() -> dict[str, Path]:
    """Maps each name in the folder to the installed file."""
    found: dict[str, Path] = {}
    for package in (_HEADERS, _LIBRARY):
        try:
            files = metadata.distribution(package).files or []
        except metadata.PackageNotFoundError:
            raise FileNotFoundError(f"{package} is not installed") from None
        for file in files:
            path = Path(os.path.normpath(str(file.locate())))
            if "include" in file.parts and file.suffix in (".h", ".hpp"):
                found["include/" + "/".join(file.parts[file.parts.index("include") + 1 :])] = path
            elif file.name == "libdnnl.so.2":
                found["lib/libdnnl.so.2"] = found["lib/libmkldnn.so"] = path
    missing = [name for name, path in found.items() if not path.exists()]
    if missing or "lib/libdnnl.so.2" not in found:
        raise FileNotFoundError(f"{_LIBRARY} is installed without {', '.join(missing[:3]) or 'libdnnl.so.2'}")
    return found


def _link_all(sources: dict[str, Path], folder: Path) -> None:
    scratch = folder.with_name(f"scratch-{secrets.token_hex(4)}")
    for name, path in sources.items():
        link = scratch / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    try:
        for tries_left in reversed(range(_TRIES)):
            try:
                if folder.exists() and not _complete(folder):  # with dangling links
                    stale = folder.rename(folder.with_name(f"stale-{secrets.token_hex(4)}"))
                    shutil.rmtree(stale, ignore_errors=True)
                scratch.rename(folder)
                return
            except OSError:
                if _complete(folder):  # another process was first
                    return
                if not tries_left:  # or another process has just moved the folder away to repair it
                    raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
