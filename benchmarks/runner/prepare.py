"""The folder of a run before its first shard: manifest, and what is there already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ovd_bench.benchmarks.runner.locks import LOCKS, held, remove_leftovers
from ovd_bench.benchmarks.runner.request import Overwrite
from ovd_bench.benchmarks.store.folders import PREDICTIONS, RESULT
from ovd_bench.benchmarks.store.manifest import Manifest, manifest_path, read_manifest, write_document
from ovd_bench.metrics.types import DataError

#: Seconds to wait for another process that is writing the manifest.
_MANIFEST_PATIENCE = 60.0


def prepare_run(
    folder: Path, wanted: Callable[[int | None], Manifest], *, overwrite: Overwrite, whole: bool
) -> Manifest:
    """Make the folder with its manifest, or check that the one there was made the same way.

    Args:
        folder: of the run.
        wanted: the manifest of this run, given the number of shards of the run that is there, or None.
        overwrite: ``always`` removes what is there, unless only some shards are asked for.
        whole: whether all shards are asked for.

    Raises:
        DataError: a run that was made otherwise is there; says in what it differs.
    """
    predictions = folder / PREDICTIONS
    predictions.mkdir(parents=True, exist_ok=True)
    path = manifest_path(folder)
    with held(predictions / LOCKS / "manifest", f"{folder}: the manifest", patience=_MANIFEST_PATIENCE):
        remove_leftovers(path)
        if overwrite == "always" and whole:
            _clear(folder)
        if path.exists():
            have = read_manifest(folder)
            differences = have.recipe.differences(wanted(have.recipe.shards).recipe)
            if differences:
                raise DataError(
                    f"{folder}: the run that is there was made with {', '.join(differences)}: ask for the same, "
                    "or give --overwrite always or another --out"
                )
            return have
        manifest = wanted(None)
        write_document(path, manifest)
        return manifest


def _clear(folder: Path) -> None:
    """Remove a run; first what says that something is there, so that being killed here leaves nothing half valid."""
    (folder / RESULT).unlink(missing_ok=True)
    predictions = folder / PREDICTIONS
    for pattern in ("shard-*.json", "manifest.json", "shard-*.arrow"):
        for path in predictions.glob(pattern):
            path.unlink()
