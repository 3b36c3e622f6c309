"""Suites: several data sets that are run together, with the mean of their AP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ovd_bench.benchmarks.data.catalog import suite_cards
from ovd_bench.benchmarks.data.catalog.card import DatasetCard, Download
from ovd_bench.benchmarks.data.catalog.cards import CARDS
from ovd_bench.benchmarks.data.files.documents import first_problem, read_yaml
from ovd_bench.benchmarks.data.strict_model import Name, StrictModel
from ovd_bench.metrics.errors import DataError

#: A folder with a file of this name is a suite.
SUITE_FILE = "suite.yaml"
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Member:
    """One data set of a suite.

    Attributes:
        name: of the benchmark in the results.
        spec: name of a card, or path of an annotation file or of a folder in COCO format.
    """

    name: str
    spec: str


@dataclass(frozen=True)
class Suite:
    """Data sets with a common mean.

    Attributes:
        name: on the command line and the board.
        title: as shown to readers.
        members: in the order of tables.
        licence: of the collection.
        downloads: what to fetch.
        shared: groups of members with the same images, whose numbers are not independent.
        notes: one-line remarks.
    """

    name: str
    title: str
    members: tuple[Member, ...]
    licence: str = ""
    downloads: tuple[Download, ...] = ()
    shared: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members."""
        return tuple(member.name for member in self.members)

    def short(self, member: str) -> str:
        """Name of a member without what all members have in common, for headings."""
        parts = [name.split("-") for name in self.names]
        same = 0
        while len(parts) > 1 and all(len(part) > same + 1 and part[same] == parts[0][same] for part in parts):
            same += 1
        return "-".join(member.split("-")[same:])


def _of_cards(names: tuple[str, ...]) -> tuple[Member, ...]:
    return tuple(Member(name, name) for name in names)


_ODINW_DOWNLOAD = Download(
    "https://huggingface.co/GLIPModel/GLIP/tree/main/odinw_35",
    "one .zip per set: unpack each there",
    "odinw",
    ("odinw",),
)
_ODINW_NOTES = (
    "scored on the validation split of every set, as by mmdetection; GLIP takes a smaller part (mini_val) of some",
    "names are those in the files; GLIP and mmdetection replace some, so that their prompts differ there",
)
_RF_NOTES = (
    "needs a key of your own: make a free account at roboflow.com, 'pip install rf100vl', set ROBOFLOW_API_KEY",
    "scored on the test split of every set",
)


def _rf_download(command: str, folder: str) -> Download:
    return Download("https://github.com/roboflow/rf100-vl", f"'rf100vl download {command}'", folder, (folder,))


_SUITES = (
    Suite(
        name="odinw13",
        title="ODinW, the 13 sets of GLIP",
        members=_of_cards(suite_cards.ODINW13),
        licence=suite_cards.ODINW_LICENCE,
        downloads=(_ODINW_DOWNLOAD,),
        notes=_ODINW_NOTES,
    ),
    Suite(
        name="odinw35",
        title="ODinW, all 35 sets",
        members=_of_cards(suite_cards.ODINW35),
        licence=suite_cards.ODINW_LICENCE,
        downloads=(_ODINW_DOWNLOAD,),
        shared=(
            ("odinw-aerialmaritimedrone-large", "odinw-aerialmaritimedrone-tiled"),
            ("odinw-egohands-generic", "odinw-egohands-specific"),
            ("odinw-oxfordpets-by-breed", "odinw-oxfordpets-by-species"),
        ),
        notes=_ODINW_NOTES,
    ),
    Suite(
        name="rf100-vl",
        title="Roboflow100-VL, 100 sets of 7 domains",
        members=_of_cards(suite_cards.RF100_VL),
        licence=suite_cards.RF100_VL_LICENCE,
        downloads=(_rf_download("rf100vl", "rf100-vl"),),
        notes=_RF_NOTES,
    ),
    Suite(
        name="rf20-vl",
        title="Roboflow20-VL, 20 sets of Roboflow100-VL",
        members=_of_cards(suite_cards.RF20_VL),
        licence=suite_cards.RF100_VL_LICENCE,
        downloads=(_rf_download("rf20vl", "rf20-vl"),),
        notes=(*_RF_NOTES, "its sets are also found in the folder rf100-vl"),
    ),
    Suite(
        name="coco-o",
        title="COCO-O, COCO's classes in 6 other domains",
        members=_of_cards(suite_cards.COCO_O),
        licence=suite_cards.COCO_O_LICENCE,
        downloads=(
            Download(
                "https://github.com/alibaba/easyrobust/tree/main/benchmarks/coco_o",
                "the page has a link to ood_coco.zip; 6,782 images, 26,624 boxes",
                ".",
                ("ood_coco",),
            ),
        ),
    ),
)

#: Suites by name, in the order in which lists show them.
SUITES: dict[str, Suite] = {suite.name: suite for suite in _SUITES}

#: All data sets that have a name, those of suites included.
KNOWN: Mapping[str, DatasetCard] = CARDS | suite_cards.MEMBERS


_Place = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]


class _SuiteFile(StrictModel):
    """``suite.yaml``: name of the suite, and the path of each set, relative to the file."""

    name: Name
    sets: Annotated[dict[Name, _Place], Field(min_length=2, max_length=10_000)]


def find_suite(spec: str) -> Suite | None:
    """The suite of a name, of a file ``suite.yaml``, or of the folder that has one; None = it is none.

    Raises:
        DataError: a file that is no list of data sets; one line.
    """
    if spec in SUITES:
        return SUITES[spec]
    if spec in KNOWN:
        return None
    path = Path(spec)
    if path.is_dir():
        path = path / SUITE_FILE
    if path.name != SUITE_FILE or not path.is_file():
        return None
    return _own_suite(path)


def _own_suite(path: Path) -> Suite:
    from pydantic import ValidationError

    try:
        file = _SuiteFile.model_validate(read_yaml(path, _MAX_BYTES, "list of data sets"))
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error)}") from None
    if file.name in SUITES or file.name in KNOWN:
        raise DataError(f"{path}: name: '{file.name}' is a data set or suite of the catalogue, choose another name")
    root = path.parent.resolve()
    members = []
    for short, place in file.sets.items():
        there = (root / place).resolve()
        if not there.is_relative_to(root):
            raise DataError(f"{path}: sets.{short}: {place!r:.100} leaves the folder of the file")
        name = f"{file.name}-{short}"
        if len(name) > 128:
            raise DataError(f"{path}: sets.{short}: '{name:.60}…' is too long as a name, 128 characters at most")
        if name in KNOWN:
            raise DataError(f"{path}: sets.{short}: '{name}' is a data set of the catalogue, choose another name")
        members.append(Member(name, str(there)))
    return Suite(name=file.name, title=str(path), members=tuple(members))
