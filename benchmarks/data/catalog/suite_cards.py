"""Cards of the data sets that suites are made of; lists show them through their suite.

Sources: ODinW, mmdetection ``configs/odinw`` (names, folders, and the validation split of every set) and GLIP
``configs/odinw_13``, ``odinw_35`` and ``odinw/download.py``; RF100-VL, roboflow/rf100-vl ``rf100vl/assets`` (names of
all sets and of the 20) and ``rf100vl/dataset.py`` (layout); COCO-O, alibaba/easyrobust ``benchmarks/coco_o``.
"""

from __future__ import annotations

from ovd_bench.benchmarks.data.catalog.card import DatasetCard, Download

#: Name in mmdetection's table -> folder of the set; a folder named ``export`` holds all splits together.
_ODINW = {
    "AerialMaritimeDrone_large": "AerialMaritimeDrone/large",
    "AerialMaritimeDrone_tiled": "AerialMaritimeDrone/tiled",
    "AmericanSignLanguageLetters": "AmericanSignLanguageLetters/American Sign Language Letters.v1-v1.coco",
    "Aquarium": "Aquarium/Aquarium Combined.v2-raw-1024.coco",
    "BCCD": "BCCD/BCCD.v3-raw.coco",
    "boggleBoards": "boggleBoards/416x416AutoOrient/export",
    "brackishUnderwater": "brackishUnderwater/960x540",
    "ChessPieces": "ChessPieces/Chess Pieces.v23-raw.coco",
    "CottontailRabbits": "CottontailRabbits",
    "dice": "dice/mediumColor/export",
    "DroneControl": "DroneControl/Drone Control.v3-raw.coco",
    "EgoHands_generic": "EgoHands/generic",
    "EgoHands_specific": "EgoHands/specific",
    "HardHatWorkers": "HardHatWorkers/raw",
    "MaskWearing": "MaskWearing/raw",
    "MountainDewCommercial": "MountainDewCommercial",
    "NorthAmericaMushrooms": "NorthAmericaMushrooms/North American Mushrooms.v1-416x416.coco",
    "openPoetryVision": "openPoetryVision/512x512",
    "OxfordPets_by_breed": "OxfordPets/by-breed",
    "OxfordPets_by_species": "OxfordPets/by-species",
    "PKLot": "PKLot/640",
    "Packages": "Packages/Raw",
    "PascalVOC": "PascalVOC",
    "pistols": "pistols/export",
    "plantdoc": "plantdoc/416x416",
    "pothole": "pothole",
    "Raccoon": "Raccoon/Raccoon.v2-raw.coco",
    "selfdrivingCar": "selfdrivingCar/fixedLarge/export",
    "ShellfishOpenImages": "ShellfishOpenImages/raw",
    "ThermalCheetah": "ThermalCheetah",
    "thermalDogsAndPeople": "thermalDogsAndPeople",
    "UnoCards": "UnoCards/raw",
    "VehiclesOpenImages": "VehiclesOpenImages/416x416",
    "WildfireSmoke": "WildfireSmoke",
    "websiteScreenshots": "websiteScreenshots",
}
_ODINW13 = (
    "AerialMaritimeDrone_large", "Aquarium", "CottontailRabbits", "EgoHands_generic", "NorthAmericaMushrooms",
    "Packages", "PascalVOC", "pistols", "pothole", "Raccoon", "ShellfishOpenImages", "thermalDogsAndPeople",
    "VehiclesOpenImages",
)  # fmt: skip
_RF100_VL = (
    "-grccs", "13-lkc01", "2024-frc", "actions", "activity-diagrams", "aerial-airport", "aerial-cows", "aerial-pool",
    "aerial-sheep", "aircraft-turnaround-dataset", "all-elements",
    "apoce-aerial-photographs-for-object-detection-of-construction-equipment", "aquarium-combined",
    "asphaltdistressdetection", "ball", "bees", "bibdetection", "buoy-onboarding", "cable-damage", "canalstenosis",
    "car-logo-detection", "circuit-voltages", "clashroyalechardetector", "cod-mw-warzone", "conveyor-t-shirts",
    "countingpills", "crystal-clean-brain-tumors-mri-dataset", "dataconvert", "deepfruits", "deeppcb",
    "defect-detection", "dentalai", "electric-pylon-detection-in-rsi", "everdaynew", "exploratorium-daphnia",
    "flir-camera-objects", "floating-waste", "football-player-detection", "fruitjes", "grapes-5", "grass-weeds",
    "gwhd2021", "halo-infinite-angel-videogame", "human-detection-in-floods", "inbreast",
    "infraredimageofpowerequipment", "into-the-vale", "invoice-processing", "ism-band-packet-detection", "jellyfish",
    "l10ul502", "label-printing-defect-version-2", "lacrosse-object-detection", "liver-disease", "macro-segmentation",
    "mahjong", "marine-sharks", "needle-base-tip-min-max", "new-defects-in-wood", "nih-xray", "orgharvest",
    "orionproducts", "paper-parts", "peixos-fish", "penguin-finder-seg", "pig-detection", "pill", "recode-waste",
    "roboflow-trained-dataset", "screwdetectclassification", "sea-cucumbers-new-tiles", "signatures", "smd-components",
    "soda-bottles", "speech-bubbles-detection", "spinefrxnormalvindr", "sssod", "stomata-cells",
    "taco-trash-annotations-in-context", "the-dreidel-project", "thermal-cheetah", "tomatoes-2", "trail-camera",
    "train", "truck-movement", "tube", "uavdet-small", "ufba-425", "underwater-objects", "urine-analysis1",
    "varroa-mites-detection--test-set", "water-meter", "wb-prova", "weeds4", "wheel-defect-detection",
    "wildfire-smoke", "wine-labels", "x-ray-id", "xray", "zebrasatasturias",
)  # fmt: skip
_RF20_VL = (
    "actions", "aerial-airport", "all-elements", "aquarium-combined", "defect-detection", "dentalai",
    "flir-camera-objects", "gwhd2021", "lacrosse-object-detection", "new-defects-in-wood", "orionproducts",
    "paper-parts", "recode-waste", "soda-bottles", "the-dreidel-project", "trail-camera", "water-meter", "wb-prova",
    "wildfire-smoke", "x-ray-id",
)  # fmt: skip
_COCO_O = ("cartoon", "handmake", "painting", "sketch", "tattoo", "weather")

ODINW_LICENCE = "every set has its own, see its page on roboflow.com; the collection is for academic research"
RF100_VL_LICENCE = "Apache 2.0, as the README of roboflow/rf100-vl states"
COCO_O_LICENCE = "not stated by its makers; the images are from the web"


def _odinw(name: str) -> DatasetCard:
    folder = f"odinw/{_ODINW[name]}"
    together = folder.endswith("/export")
    images = folder if together else f"{folder}/valid"
    file = f"{folder}/val_" if together else f"{folder}/valid/"
    annotations = f"{file}annotations_without_background.json"
    archive = _ODINW[name].split("/")[0]
    return DatasetCard(
        name=_odinw_name(name),
        dataset="odinw",
        split="valid",
        title=f"ODinW, {name}",
        protocol="coco",
        annotations=(annotations,),
        images=(images,),
        licence=ODINW_LICENCE,
        image_sources=("openimages-v6" if name.endswith("OpenImages") else "odinw",),
        train_sources=("odinw",),
        downloads=(
            Download(
                f"https://huggingface.co/GLIPModel/GLIP/resolve/main/odinw_35/{archive}.zip",
                "archive of this set",
                "odinw",
                (annotations, images),
            ),
        ),
    )


def _odinw_name(name: str) -> str:
    return f"odinw-{name.lower().replace('_', '-')}"


def _rf100_vl(name: str) -> DatasetCard:
    roots = ("rf100-vl", "rf20-vl") if name in _RF20_VL else ("rf100-vl",)
    folders = tuple(f"{root}/{name}/test" for root in roots)
    annotations = tuple(f"{folder}/_annotations.coco.json" for folder in folders)
    return DatasetCard(
        name=_rf100_vl_name(name),
        dataset="rf100-vl",
        split="test",
        title=f"RF100-VL, {name}",
        protocol="coco",
        annotations=annotations,
        images=folders,
        licence=RF100_VL_LICENCE,
        image_sources=("rf100-vl",),
        train_sources=("rf100-vl",),
        downloads=(
            Download(
                "https://universe.roboflow.com/rf-100-vl", "needs a free key", "rf100-vl", (annotations[0], folders[0])
            ),
        ),
    )


def _rf100_vl_name(name: str) -> str:
    return f"rf100-vl-{name.lstrip('-')}"


def _coco_o(domain: str) -> DatasetCard:
    folders = tuple(f"{root}/{domain}" for root in ("ood_coco", "coco-o"))
    annotations = tuple(f"{folder}/annotations/instances_val2017.json" for folder in folders)
    images = tuple(f"{folder}/val2017" for folder in folders)
    return DatasetCard(
        name=f"coco-o-{domain}",
        dataset="coco-o",
        split=domain,
        title=f"COCO-O, {domain}",
        protocol="coco",
        annotations=annotations,
        images=images,
        licence=COCO_O_LICENCE,
        image_sources=("coco-o",),
        train_sources=(),
        downloads=(
            Download(
                "https://github.com/alibaba/easyrobust/tree/main/benchmarks/coco_o",
                "the page has a link to ood_coco.zip",
                ".",
                (annotations[0], images[0]),
            ),
        ),
    )


#: Cards by name.
MEMBERS: dict[str, DatasetCard] = {
    card.name: card for card in (*map(_odinw, _ODINW), *map(_rf100_vl, _RF100_VL), *map(_coco_o, _COCO_O))
}

#: Names of the members of each collection, in the order of their makers' tables.
ODINW13 = tuple(map(_odinw_name, _ODINW13))
ODINW35 = tuple(map(_odinw_name, _ODINW))
RF100_VL = tuple(map(_rf100_vl_name, _RF100_VL))
RF20_VL = tuple(map(_rf100_vl_name, _RF20_VL))
COCO_O = tuple(f"coco-o-{domain}" for domain in _COCO_O)
