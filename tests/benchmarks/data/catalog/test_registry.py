"""From names and paths to benchmarks."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from ovd_bench.benchmarks.data.catalog.card import DatasetCard
from ovd_bench.benchmarks.data.catalog.cards import CARDS
from ovd_bench.benchmarks.data.catalog.convert import derive_minival
from ovd_bench.benchmarks.data.catalog.custom import legal_name
from ovd_bench.benchmarks.data.catalog.registry import expected_counts, find_dataset, open_benchmark
from ovd_bench.benchmarks.data.catalog.suites import KNOWN
from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.image_match import located_paths
from ovd_bench.benchmarks.data.images import image_file, image_paths
from ovd_bench.benchmarks.store.contamination import COLLECTIONS
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.protocol import PROTOCOLS
from ovd_bench.tests.benchmarks.data.catalog.made import coco_document, lvis_root, write_image, write_json

LEGAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
FOLDERS = ("train2017", "val2017", "val2017", "train2017")


@pytest.mark.parametrize("card", KNOWN.values(), ids=lambda card: card.name)
def test_cards_are_sound(card: DatasetCard) -> None:
    assert LEGAL.fullmatch(card.name)
    assert KNOWN[card.name] is card
    assert card.protocol in (*PROTOCOLS, "grounding-recall")
    assert set(card.image_sources) <= COLLECTIONS
    assert card.image_sources
    places = [*card.annotations, *card.images, *(p for d in card.downloads for p in (*d.gives, d.into))]
    assert not any(Path(place).is_absolute() or ".." in Path(place).parts for place in places)
    assert not card.derived_from or card.derived_from in CARDS
    assert bool(card.world) != bool(card.downloads)
    given = {place for download in card.downloads for place in download.gives}
    if not card.world and not card.derived_from:
        # what the instructions put there is what is looked for
        if card.conversion:
            words = [word.removeprefix("{root}/") for word in card.conversion.split() if word.startswith("{root}/")]
            assert all(place in given or any(g.startswith(place + "/") for g in given) for place in words[:-1])
            assert words[-1] in (card.annotations[0], card.annotations[0].replace("-a.jsonl", ".jsonl"))
        else:
            looked_for = [card.misspelt] if card.misspelt else card.annotations
            assert any(place in given or any(place.startswith(g + "/") for g in given) for place in looked_for)
        if card.image_folders:
            assert {f"{card.images[0]}/{folder}" for folder in card.image_folders} <= given
        else:
            assert card.images[0] in given


def test_names_asked_for_exist() -> None:
    assert {
        "lvis-v1-val", "lvis-v1-train", "lvis-minival", "lvis-v0.5-val", "coco-val2017", "coco-train2017",
        "objects365-v1-val", "objects365-v2-val", "flickr30k-test", "flickr30k-train", "gqa",
        "shapes", "shapes-minival", "shapes-train", "shapes-lvis",
        "shapes-phrases", "shapes-phrases-minival", "shapes-phrases-train",
        "refcoco", "flickr30k-entities-test", "d3", "omnilabel-val", "saco-gold-metaclip", "saco-gold-sa1b",
        "saco-gold-attributes", "saco-gold-crowded", "saco-gold-wiki-common", "saco-gold-fg-food",
        "saco-gold-fg-sports-equipment",
    } == set(CARDS)  # fmt: skip


def test_lvis(tmp_path: Path) -> None:
    annotations = lvis_root(tmp_path, FOLDERS)
    benchmark = open_benchmark("lvis-v1-val", tmp_path)
    assert (benchmark.name, benchmark.dataset, benchmark.split) == ("lvis-v1-val", "lvis-v1", "val")
    assert (benchmark.annotations, benchmark.images) == (annotations, tmp_path / "coco")
    assert (benchmark.protocol, benchmark.tables) == ("lvis", None)
    assert benchmark.image_sources == ("coco-train2017", "coco-val2017")
    assert open_benchmark("lvis-v1-val", tmp_path, protocol="lvis-fixed").protocol == "lvis-fixed"
    names = image_paths(read_ground_truth(benchmark.annotations))
    assert all(image_file(benchmark.images, name).is_file() for name in names)


@pytest.mark.parametrize("place", CARDS["lvis-v1-val"].annotations)
def test_usual_places(tmp_path: Path, place: str) -> None:
    found = lvis_root(tmp_path, FOLDERS)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(found, tmp_path / place)
    assert open_benchmark("lvis-v1-val", tmp_path).annotations == tmp_path / place


def test_minival_after_derivation(tmp_path: Path) -> None:
    annotations = lvis_root(tmp_path, FOLDERS)
    with pytest.raises(DataError, match=r"lvis-minival: the annotation file is missing, .*'bench data get lvis-min"):
        open_benchmark("lvis-minival", tmp_path)
    derive_minival(annotations, tmp_path / "lvis/lvis_v1_minival.json")
    shutil.rmtree(tmp_path / "coco/train2017")
    benchmark = open_benchmark("lvis-minival", tmp_path)
    assert benchmark.image_sources == ("coco-val2017",)
    assert read_ground_truth(benchmark.annotations).image_ids.tolist() == [101, 102]


def test_missing_images_are_named(tmp_path: Path) -> None:
    lvis_root(tmp_path, FOLDERS)
    shutil.rmtree(tmp_path / "coco/train2017")
    with pytest.raises(DataError, match=r"the folder of the images with train2017 and val2017 in it is missing"):
        open_benchmark("lvis-v1-val", tmp_path)
    with pytest.raises(DataError, match="no such folder of images"):
        open_benchmark("lvis-v1-val", tmp_path, images=tmp_path / "none")
    assert open_benchmark("lvis-v1-val", tmp_path, images=tmp_path / "coco").images == tmp_path / "coco"


def test_linked_image_folders(tmp_path: Path) -> None:
    """The usual way: the folders of COCO lie elsewhere and are linked one by one."""
    lvis_root(tmp_path / "data", FOLDERS)
    shutil.move(tmp_path / "data/coco", tmp_path / "big")
    (tmp_path / "data/coco").mkdir()
    for folder in ("train2017", "val2017"):
        (tmp_path / "data/coco" / folder).symlink_to(tmp_path / "big" / folder)
    benchmark = open_benchmark("lvis-v1-val", tmp_path / "data")
    assert image_file(benchmark.images, "val2017/000000000001.jpg").is_file()


def test_coco_with_tables(tmp_path: Path) -> None:
    write_image(tmp_path / "coco/val2017/a.jpg")
    write_json(tmp_path / "coco/annotations/instances_val2017.json", coco_document(["a.jpg"]))
    assert open_benchmark("coco-val2017", tmp_path).tables is None
    (tmp_path / "coco/coco_to_synset.json").write_text("{}")
    benchmark = open_benchmark("coco-val2017", tmp_path)
    assert benchmark.tables == tmp_path / "coco/coco_to_synset.json"
    assert benchmark.images == tmp_path / "coco/val2017"


@pytest.mark.parametrize("spec", ["nope", "", "lvis-v1-test", "a\0b"])
def test_neither_name_nor_path(tmp_path: Path, spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        open_benchmark(spec, tmp_path)
    with pytest.raises(DataError, match="no data set"):
        find_dataset(spec)


def test_unknown_protocol(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown protocol 'voc': choose from lvis"):
        open_benchmark("shapes", tmp_path, protocol="voc")


def test_shapes_are_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ovd_bench.benchmarks.data import shapes
    from ovd_bench.benchmarks.data.shapes.world import Split, World

    world: World = shapes.WORLDS["shapes"]
    small = world.__class__(
        **{field: getattr(world, field) for field in world.__dataclass_fields__}
        | {
            "split_list": (
                *(s for s in world.split_list if s.name == "train"),
                Split("minival", 300),
                Split("test", 90),
            )
        }
    )
    monkeypatch.setitem(shapes.WORLDS, "shapes", small)
    calls: list[int] = []
    original = shapes.write_split

    def counted(world: World, split: str, folder: Path, **options: object) -> Path:
        calls.append(world.splits[split])
        return original(world, split, folder, workers=1)

    monkeypatch.setattr(shapes, "write_split", counted)
    first = open_benchmark("shapes", tmp_path)
    assert (first.annotations, first.images) == (tmp_path / "shapes/test.json", tmp_path / "shapes")
    assert first.tables == tmp_path / "shapes/tables.json"
    assert (first.image_sources, first.train_sources[0]) == (("shapes-test",), "shapes-train")
    assert open_benchmark("shapes", tmp_path) == first
    assert calls == [90]
    gt = read_ground_truth(first.annotations)
    assert (gt.num_images, gt.num_classes) == (90, expected_counts(CARDS["shapes"]).classes)
    assert all(image_file(first.images, name).is_file() for name in image_paths(gt))


def test_data_root_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="--data-root names another folder"):
        open_benchmark("shapes", tmp_path / "file")


# ---- data of the user


def test_annotation_file_beside_images(tmp_path: Path) -> None:
    write_image(tmp_path / "sub/a.jpg")
    path = write_json(tmp_path / "mine.json", coco_document(["sub/a.jpg"]))
    benchmark = open_benchmark(str(path), tmp_path)
    assert (benchmark.name, benchmark.images, benchmark.protocol) == ("mine", tmp_path, "coco")
    assert (benchmark.image_sources, benchmark.train_sources) == ((), ())
    assert open_benchmark(str(path), tmp_path, images=tmp_path / "sub").images == tmp_path / "sub"


@pytest.mark.parametrize("images", ["val", "images/val", "images", "data", "."])
def test_coco_layouts(tmp_path: Path, images: str) -> None:
    folder = tmp_path / "farm animals"
    write_image(folder / images / "b.jpg")
    write_json(folder / "annotations/instances_val.json", coco_document(["missing.jpg", "b.jpg"]))
    benchmark = open_benchmark(str(folder), tmp_path)
    assert benchmark.images.resolve() == (folder / images).resolve()
    assert benchmark.name == legal_name("farm animals-val")
    assert (benchmark.dataset, benchmark.split) == ("farm animals", "val")


def test_roboflow(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_image(tmp_path / "aquarium" / split / "a.jpg")
        write_json(tmp_path / "aquarium" / split / "_annotations.coco.json", coco_document(["a.jpg"]))
    benchmark = open_benchmark(str(tmp_path / "aquarium/valid"), tmp_path)
    assert (benchmark.name, benchmark.images) == ("aquarium-valid", tmp_path / "aquarium/valid")
    with pytest.raises(DataError, match=r"has 2 annotation files, name one of them: .*train.*valid"):
        open_benchmark(str(tmp_path / "aquarium"), tmp_path)
    shutil.rmtree(tmp_path / "aquarium/train")
    assert open_benchmark(str(tmp_path / "aquarium"), tmp_path) == benchmark


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("plants/labels.json", "plants"),
        ("plants/weeds.json", "weeds"),
        ("plants/annotations/labels.json", "plants"),
        ("plants/annotations/instances_default.json", "plants-default"),
        ("plants/instances_val.json", "plants-val"),
        ("plants/test.json", "plants-test"),
        ("plants/Test/gt.json", "plants-test"),
        ("plants/result.json", "plants"),
        ("plants/_annotations.coco.json", "plants"),
    ],
)
def test_generic_file_names_give_way_to_the_folder(file: str, name: str, tmp_path: Path) -> None:
    path = write_json(tmp_path / file, coco_document(["a.jpg"]))
    benchmark = open_benchmark(str(path), tmp_path, images=tmp_path)
    assert benchmark.name == name
    assert open_benchmark(str(path), tmp_path, images=tmp_path, name="mine.2").name == "mine.2"
    for wrong, cause in (("shapes", "has that name"), ("my data", "letters, digits"), ("", "letters, digits")):
        with pytest.raises(DataError, match=cause):
            open_benchmark(str(path), tmp_path, images=tmp_path, name=wrong)
    with pytest.raises(DataError, match="only data of your own is named"):
        open_benchmark("shapes", tmp_path, name="mine")


def test_several_splits_in_annotations(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_json(tmp_path / f"annotations/instances_{split}.json", coco_document(["a.jpg"]))
    with pytest.raises(DataError, match="name one of them"):
        open_benchmark(str(tmp_path), tmp_path)


def test_nothing_in_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no annotations found"):
        open_benchmark(str(tmp_path), tmp_path)


def test_images_not_found(tmp_path: Path) -> None:
    path = write_json(tmp_path / "gt.json", coco_document(["a.jpg"]))
    with pytest.raises(DataError, match=r"images not found, 'a\.jpg' was looked for in .*: give --images"):
        open_benchmark(str(path), tmp_path)


def test_image_paths_that_leave(tmp_path: Path) -> None:
    path = write_json(tmp_path / "gt.json", coco_document(["../a.jpg"]))
    with pytest.raises(DataError, match="leaves the folder"):
        open_benchmark(str(path), tmp_path)


MOVED = {
    "backslashes": r"images\{}.png",
    "a path of another machine": "/data/upload/4/{}.png",
    "dots": r"..\..\media\upload\{}.png",
    "a URL": "http://localhost:8080/data/upload/4/{}.png",
    "a signed URL": "https://storage.example/a%20b/{}.png?Signature=a/b#c",
    "a local file of a storage": "/data/local-files/?d=set%5C{}.png",
}


@pytest.mark.parametrize("form", MOVED.values(), ids=MOVED)
def test_moved_images_are_found_by_base_name(form: str, tmp_path: Path) -> None:
    for number in range(2):
        write_image(tmp_path / f"set/images/{number}.png")
    path = write_json(tmp_path / "set/result.json", coco_document([form.format(number) for number in range(2)]))
    with pytest.raises(DataError, match=f"base names are in {tmp_path}/set/images, give --match basename"):
        open_benchmark(str(path), tmp_path)
    benchmark = open_benchmark(str(path), tmp_path, match="basename")
    assert benchmark.images == tmp_path / "set/images"
    gt = read_ground_truth(path)
    assert located_paths(gt, benchmark.images, "basename") == ["0.png", "1.png"]
    assert located_paths(gt, tmp_path / "set", "basename") == ["images/0.png", "images/1.png"]


def test_base_names_that_are_not_there_or_shared(tmp_path: Path) -> None:
    write_image(tmp_path / "a/1.png")
    gt = read_ground_truth(write_json(tmp_path / "gt.json", coco_document(["x/1.png", "x/2.png"])))
    assert located_paths(gt, tmp_path, "basename") == ["a/1.png", "2.png"]
    write_image(tmp_path / "b/1.png")
    with pytest.raises(DataError, match=r"a/1\.png and b/1\.png have the same base name"):
        located_paths(gt, tmp_path, "basename")
    assert located_paths(gt, tmp_path / "a", "basename") == ["1.png", "2.png"]
    twins = read_ground_truth(write_json(tmp_path / "twins.json", coco_document(["x/1.png", "y/1.png"])))
    with pytest.raises(DataError, match=r"'x/1\.png' and 'y/1\.png' have the same base name"):
        located_paths(twins, tmp_path / "a", "basename")


def test_base_names_do_not_leave_the_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "out/1.png")
    write_image(tmp_path / "in/2.png")
    (tmp_path / "in/deep").symlink_to(tmp_path / "out")
    (tmp_path / "in/1.png").symlink_to(tmp_path / "out/1.png")
    gt = read_ground_truth(write_json(tmp_path / "gt.json", coco_document(["../1.png"])))
    (name,) = located_paths(gt, tmp_path / "in", "basename")
    with pytest.raises(DataError, match="leaves the folder"):
        image_file(tmp_path / "in", name)


def test_own_lvis_file_gets_lvis_rules(tmp_path: Path) -> None:
    lvis_root(tmp_path, FOLDERS)
    shutil.move(tmp_path / "lvis/lvis_v1_val.json", tmp_path / "coco/lvis_v1_val.json")
    benchmark = open_benchmark(str(tmp_path / "coco/lvis_v1_val.json"), tmp_path)
    assert (benchmark.protocol, benchmark.name) == ("lvis", "lvis_v1_val")


def test_real_files_by_path(real_data: Path, tmp_path: Path) -> None:
    lvis = real_data / "lvis-api/lvis_val_100.json"
    with pytest.raises(DataError, match="give --images"):
        open_benchmark(str(lvis), tmp_path)
    benchmark = open_benchmark(str(lvis), tmp_path, images=tmp_path)
    assert (benchmark.name, benchmark.protocol) == ("lvis_val_100", "lvis")
    coco = open_benchmark(str(real_data / "faster_coco_eval/instances_val2014_100.json"), tmp_path, images=tmp_path)
    assert (coco.name, coco.protocol) == ("instances_val2014_100", "coco")


@pytest.mark.parametrize(
    "text", ["a b", "../../etc/passwd", "größe", "", "...", "x" * 300, "-rf", "a/b", "name\n", "\ud800"]
)
def test_names_become_legal_and_stay_apart(text: str) -> None:
    name = legal_name(text)
    assert LEGAL.fullmatch(name)
    assert name != legal_name(text + "!")
    assert legal_name(name) == name


def test_registered_names_are_not_taken(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    path = write_json(tmp_path / "coco-val2017.json", coco_document(["a.jpg"]))
    assert open_benchmark(str(path), tmp_path).name == "coco-val2017-own"
