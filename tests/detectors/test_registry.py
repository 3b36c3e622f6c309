"""Finding and loading detectors: the suite's own, those of installed packages, those in a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.interface import Detector, DetectorSettings, GroundingDetector
from ovd_bench.detectors.prompts import PLANS
from ovd_bench.detectors.registry import BUILT_IN, ENTRY_POINTS, detector_cards, find_card, load_detector
from ovd_bench.detectors.types import DetectorError, Image, Vocabulary

ROOT = Path(__file__).resolve().parents[2]

PACKAGE = """
from ovd_bench.detectors.card import DetectorCard
CARD = DetectorCard("entry-grid", "entry-grid", "numpy", loader="entry_grid:load")
TAKEN = DetectorCard("owlv2-base-patch16", "x", "numpy", loader="entry_grid:load")
NO_CARD = "a string"

class Grid:
    def __init__(self, card, settings):
        self.card, self.settings = card, settings
    def set_vocabulary(self, vocabulary, plan):
        pass
    def detect(self, images):
        return []

load = Grid
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def] # noqa: ANN201
    """Put a package with the given entry points on the path, as pip would."""

    def put(**entries: str) -> None:
        (tmp_path / "entry_grid.py").write_text(PACKAGE)
        info = tmp_path / "entry_grid-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: entry-grid\nVersion: 1.0\n")
        lines = "".join(f"{name} = {value}\n" for name, value in entries.items())
        (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{lines}")
        monkeypatch.syspath_prepend(str(tmp_path))

    monkeypatch.delitem(sys.modules, "entry_grid", raising=False)
    return put


def test_cards_of_the_suite_are_complete() -> None:
    assert BUILT_IN
    for name, card in BUILT_IN.items():
        assert card.name == name
        assert ":" in card.loader
        assert card.training_data, name
        assert card.licence, name
        assert find_card(name) is card


def test_knowing_detectors_imports_no_framework() -> None:
    code = "import sys; from ovd_bench.detectors.registry import detector_cards; assert detector_cards(); "
    code += "print(sorted({'torch', 'jittor', 'transformers', 'torchvision', 'scipy'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_entry_point_of_an_installed_package(install) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    install(grid="entry_grid:CARD")
    assert "entry-grid" in detector_cards()
    detector = load_detector("entry-grid", DetectorSettings(top_k=5))
    assert isinstance(detector, Detector)
    assert not isinstance(detector, GroundingDetector)
    assert detector.card.loader == "entry_grid:load"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("entry_grid:TAKEN", "the name 'owlv2-base-patch16' is already in use"),
        ("entry_grid:NO_CARD", "is not a detectors.card.DetectorCard"),
        ("entry_grid:MISSING", "MISSING"),
        ("no_such_module:CARD", "No module named 'no_such_module'"),
    ],
)
def test_entry_point_that_is_wrong_is_named(install, entry: str, words: str) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    install(grid=entry)
    with pytest.raises(DetectorError, match=f"entry point 'grid' = '{entry}': .*{words}"):
        detector_cards()
    assert find_card("owlv2-base-patch16") is BUILT_IN["owlv2-base-patch16"]
    said: list[str] = []
    assert list(detector_cards(said.append)) == list(BUILT_IN)  # nobody else is in its way
    assert len(said) == 1
    with pytest.raises(DetectorError, match=f"no detector 'nothing'.*entry point 'grid' = '{entry}'"):
        find_card("nothing")


def test_unknown_name_says_where_to_look() -> None:
    with pytest.raises(DetectorError, match=r"no detector 'nothing': 'bench list' shows them"):
        find_card("nothing")


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILT_IN, "ghost", DetectorCard("ghost", "ghost", "torch", loader="no_such_package.x:load"))
    with pytest.raises(DetectorError, match="'ghost' needs the package 'no_such_package'"):
        load_detector("ghost", DetectorSettings())


def test_missing_loader_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        BUILT_IN, "ghost", DetectorCard("ghost", "ghost", "numpy", loader="ovd_bench.detectors.types:load")
    )
    with pytest.raises(DetectorError, match=r"there is no 'load' in .*types\.py"):
        load_detector("ghost", DetectorSettings())


FILE = '''
from __future__ import annotations
from dataclasses import dataclass, field
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.types import Detections

@dataclass
class Whole:
    """One box over the whole image; a dataclass needs its module to be known by name."""
    card: DetectorCard
    settings: object
    ids: list[int] = field(default_factory=list)

    def set_vocabulary(self, vocabulary, plan):
        self.ids = list(vocabulary.ids)

    def detect(self, images):
        return [Detections.of(i, [[0, 0, i.width, i.height]], [MARK], self.ids[:1]) for i in images]

class Carded(Whole):
    card = DetectorCard("carded", "carded", "numpy", loader="")
    def __init__(self, card, settings):
        super().__init__(card, settings)

def not_a_detector(card, settings):
    return 3

number = 3
'''


def write(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_detector_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, FILE + "MARK = 0.5\n")
    monkeypatch.chdir(tmp_path)
    card = find_card("mine.py:Whole")
    assert (card.name, card.training_data) == ("Whole", None)
    assert card.loader == f"{tmp_path / 'mine.py'}:Whole"  # a worker may be started in another folder
    detector = load_detector("mine.py:Whole", DetectorSettings())
    detector.set_vocabulary(Vocabulary((9,), ("x",)), PLANS["names"])
    found = detector.detect([Image(1, np.zeros((4, 6, 3), np.uint8))])
    assert found[0].boxes_xyxy.tolist() == [[0, 0, 6, 4]]
    assert load_detector("mine.py:Carded", DetectorSettings()).card.name == "carded"


def test_files_of_one_name_in_two_folders_are_two_modules(tmp_path: Path) -> None:
    scores = []
    for number, folder in enumerate(("a", "b")):
        path = write(tmp_path / folder, FILE + f"MARK = 0.{number + 1}\n")
        detector = load_detector(f"{path}:Whole", DetectorSettings())
        detector.set_vocabulary(Vocabulary((9,), ("x",)), PLANS["names"])
        scores.append(round(float(detector.detect([Image(1, np.zeros((4, 6, 3), np.uint8))])[0].scores[0]), 3))
        assert sys.modules[type(detector).__module__].__file__ == str(path)
    assert scores == [0.1, 0.2]


@pytest.mark.parametrize(
    ("text", "attribute", "words"),
    [
        (FILE, "Nothing", "there is no 'Nothing' in"),
        (FILE, "number", "cannot be called as number"),
        (FILE, "not_a_detector", "returned no detector: expected card, set_vocabulary and detect"),
        ("def broken(:\n", "X", "line 1: "),
        ("import no_such_package\n", "X", "No module named 'no_such_package'"),
    ],
)
def test_file_that_is_wrong_says_so_in_one_line(tmp_path: Path, text: str, attribute: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DetectorError, match=words) as caught:
        load_detector(f"{path}:{attribute}", DetectorSettings())
    assert "\n" not in str(caught.value)
    assert "mine.py" in str(caught.value)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match=r"none\.py: no such Python file"):
        find_card(f"{tmp_path}/none.py:X")


EXITS = {
    "import sys\nsys.exit(3)": "SystemExit: 3 (mine.py:2)",
    "raise SystemExit(0)": "SystemExit: 0 (mine.py:1)",
    "import os\nos._exit(0)": "SystemExit: os._exit(0) (mine.py:2)",
    "raise GeneratorExit": "GeneratorExit:  (mine.py:1)",
    "1 / 0": "ZeroDivisionError: division by zero (mine.py:1)",
}


@pytest.mark.parametrize("text", EXITS)
def test_a_file_that_ends_the_program_does_not(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DetectorError) as caught:
        find_card(f"{path}:X")
    assert str(caught.value) == f"{path}: {EXITS[text]}"


CARDS = {
    'DetectorCard("[/bold]", "f", "numpy", "")': "card: name '[/bold]': expected letters, digits and . _ + -",
    'DetectorCard("../x", "f", "numpy", "")': "card: name '../x': expected letters",
    'DetectorCard(7, "f", "numpy", "")': "card: name: input should be a valid string",
    'DetectorCard("x", "f", "tensorflow", "")': "card: framework: input should be 'torch', 'jittor' or 'numpy'",
    'DetectorCard("x", "f", "numpy", "", notes="text")': "card: notes: input should be a valid tuple",
    'DetectorCard("x", "f", "numpy", "", training_data=({},))': "card: training_data: ",
    'DetectorCard("x", "f", "numpy", "", parameters=1.5)': "card: parameters: input should be a valid integer",
}


@pytest.mark.parametrize("card", CARDS)
def test_a_card_of_other_types_is_refused(tmp_path: Path, card: str) -> None:
    path = write(
        tmp_path, f"from ovd_bench.detectors.card import DetectorCard\ndef X(card, settings): ...\nX.card = {card}\n"
    )
    with pytest.raises(DetectorError) as caught:
        find_card(f"{path}:X")
    assert str(caught.value).startswith(f"detector '{path}:X': {CARDS[card]}")
    assert "\n" not in str(caught.value)
