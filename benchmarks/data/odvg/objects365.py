"""Corrections for Objects365: spellings, file names, and missing images."""

from __future__ import annotations

import re

#: Misspelt class names of the official files; those of v2 have capitals, those of v1 none. Most are also corrected by
#: mmdetection (``tools/dataset_converters/objects365_v2_names_fix.csv``), but not balloon, billiards and noodles.
REPAIRED_NAMES = {
    "Moniter/TV": "Monitor/TV",
    "Bakset": "Basket",
    "Ballon": "Balloon",
    "Dinning Table": "Dining Table",
    "Tea pot": "Teapot",
    "tea pot": "teapot",
    "Billards": "Billiards",
    "Extention Cord": "Extension Cord",
    "Hotair ballon": "Hot air balloon",
    "hotair balloon": "hot air balloon",
    "Hamimelon": "Hami melon",
    "hamimelon": "hami melon",
    "Mushroon": "Mushroom",
    "Tape Measur/ Ruler": "Tape Measure/Ruler",
    "Campel": "Camel",
    "Meat ball": "Meatball",
    "meat balls": "meatballs",
    "Buttefly": "Butterfly",
    "Noddles": "Noodles",
    "Table Teniis paddle": "Table Tennis paddle",
    "pine apple": "pineapple",
}

#: Images of v2 that are in the annotations but not in the archives (mmdetection, ``mmdet/datasets/objects365.py``).
MISSING_V2 = frozenset(
    {
        "patch16/objects365_v2_00908726.jpg",
        "patch6/objects365_v1_00320532.jpg",
        "patch6/objects365_v1_00320534.jpg",
    }
)
#: Ids of such images of v1 (mmdetection, ``tools/dataset_converters/coco2odvg.py``).
MISSING_V1 = frozenset({6, 19, 23})

_V2_NAME = re.compile(r"(?:images/v[12]/)?(patch\d+/objects365_v[12]_\d+\.jpg)")


def repaired_name(name: str) -> str:
    """The corrected class name; leading, trailing and repeated blanks are removed, too."""
    plain = " ".join(name.split())
    return REPAIRED_NAMES.get(plain, plain)


def v2_file_name(name: str) -> str | None:
    """``patch6/objects365_v1_00320532.jpg`` from a name of v2, which has ``images/v1/`` before it; None for v1."""
    match = _V2_NAME.fullmatch(name)
    return match[1] if match else None
