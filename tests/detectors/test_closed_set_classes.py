"""Which class of a closed-set detector a category gets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ovd_bench.detectors.closed_set_classes import map_classes
from ovd_bench.detectors.closed_set_synonyms import SYNONYMS
from ovd_bench.detectors.coco_classes import COCO_CLASSES
from ovd_bench.detectors.types import Vocabulary

#: From LVIS's data/coco_to_synset.json: classes of COCO that LVIS calls otherwise, case and underscores aside.
LVIS_NAMES = {
    "bus": "bus_(vehicle)",
    "car": "car_(automobile)",
    "cell phone": "cellular_telephone",
    "couch": "sofa",
    "donut": "doughnut",
    "fire hydrant": "fireplug",
    "hair drier": "hair_dryer",
    "keyboard": "computer_keyboard",
    "laptop": "laptop_computer",
    "microwave": "microwave_oven",
    "mouse": "mouse_(computer_equipment)",
    "orange": "orange_(fruit)",
    "remote": "remote_control",
    "skis": "ski",
    "sports ball": "ball",
    "tie": "necktie",
    "train": "train_(railroad_vehicle)",
    "tv": "television_set",
    "wine glass": "wineglass",
}
#: From the class list of Objects365 v2, misspellings included.
OBJECTS365_NAMES = {
    "handbag": "Handbag/Satchel",
    "bowl": "Bowl/Basin",
    "tv": "Moniter/TV",
    "dining table": "Dinning Table",
    "orange": "Orange/Tangerine",
    "hair drier": "Hair Dryer",
    "cell phone": "Cell Phone",
    "traffic light": "Traffic Light",
}


def vocabulary(*names: str, synonyms: tuple[tuple[str, ...], ...] = ()) -> Vocabulary:
    return Vocabulary(tuple(range(100, 100 + len(names))), names, synonyms)


def found(name: str, classes: tuple[str, ...] = COCO_CLASSES, synonyms: tuple[str, ...] = ()) -> str | None:
    column = map_classes(vocabulary(name, synonyms=(synonyms,)), classes).columns[0]
    return None if column is None else classes[column]


def test_every_class_finds_itself_whatever_its_case_and_underscores() -> None:
    for name in {*COCO_CLASSES} - {"N/A"}:
        assert found(name) == found(name.upper()) == found(name.replace(" ", "_")) == name


def test_names_of_lvis_and_objects365_are_understood() -> None:
    for names in (LVIS_NAMES, OBJECTS365_NAMES):
        assert {own: found(other) for own, other in names.items()} == {own: own for own in names}


def test_a_detector_with_the_classes_of_objects365_understands_coco() -> None:
    classes = tuple(OBJECTS365_NAMES.values())
    assert {own: found(own, classes) for own in OBJECTS365_NAMES} == OBJECTS365_NAMES
    assert found("television_set", classes) == "Moniter/TV"
    assert found("basin", classes) == "Bowl/Basin"


def test_a_qualifier_that_says_another_thing_is_not_cut() -> None:
    assert found("mouse_(animal_rodent)") is None
    assert found("knight_(chess_piece)", synonyms=("horse_(chess_piece)",)) is None
    assert found("N/A") is None


def test_synonyms_of_the_vocabulary_come_after_the_name() -> None:
    assert found("baby", synonyms=("child", "person", "human")) == "person"
    assert found("cup", synonyms=("bowl",)) == "cup"
    assert found("settee", synonyms=("lounge", "television_set", "bowl")) == "tv"


def test_the_table_names_nothing_twice() -> None:
    words = [word for group in SYNONYMS for word in group]
    assert len(set(words)) == len(words)
    assert all(word == " ".join(word.casefold().replace("_", " ").split()) for word in words)
    assert {group[0] for group in SYNONYMS} <= set(COCO_CLASSES)


def test_what_does_not_fit_is_noted() -> None:
    mapped = map_classes(vocabulary("sofa", "aerosol", "couch", "dog", "zeppelin"), ("N/A", "couch", "dog", "cat"))
    assert mapped.columns == (1, None, 1, 2, None)
    assert mapped.notes == (
        "categories without a class, which get no box: 2 of 5, as 'aerosol'",
        "categories found by another name: 1, as 'sofa' by 'couch'",
        "classes that serve several categories: 1, as 'couch'",
        "classes that are not asked for: 1 of 3, as 'cat'",
    )
    assert map_classes(vocabulary("Dog", "cat"), ("cat", "dog")).notes == ()


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1), st.lists(st.text(), min_size=1))
def test_any_names_are_read(names: list[str], classes: list[str]) -> None:
    mapped = map_classes(vocabulary(*names), classes)
    assert len(mapped.columns) == len(names)
    for name, column in zip(names, mapped.columns, strict=True):
        if name in classes and " ".join(name.replace("_", " ").split()).casefold() != "n/a":
            assert column is not None
