"""Names under which COCO, LVIS, Objects365 and Pascal VOC know the same thing.

Facts of the data sets themselves: LVIS's ``data/coco_to_synset.json`` (lvis-dataset/lvis-api) and the synonyms that
its annotations list, the class lists of Objects365 and of Pascal VOC. Two pairs of LVIS's map are left out, because
they are not the same object: a potted plant is no flowerpot, and a hot dog no frankfurter. A sports ball is LVIS's
ball, a thing to play with. Only names that a change of case, an underscore or a slash does not explain are listed;
``detectors.closed_set_classes`` deals with these.
"""

from __future__ import annotations

#: Each group: the name in COCO first, then the others, in lower case with blanks for underscores.
SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("airplane", "aeroplane"),
    ("baseball glove", "baseball mitt"),
    ("bus", "bus (vehicle)", "autobus"),
    ("car", "car (automobile)", "auto (automobile)", "automobile"),
    ("cell phone", "cellular telephone", "cellular phone", "cellphone", "mobile phone", "smart phone"),
    ("couch", "sofa"),
    ("dining table", "diningtable", "dinning table"),
    ("donut", "doughnut"),
    ("fire hydrant", "fireplug", "hydrant"),
    ("hair drier", "hair dryer"),
    ("keyboard", "computer keyboard", "keyboard (computer)"),
    ("laptop", "laptop computer", "notebook computer"),
    ("microwave", "microwave oven"),
    ("motorcycle", "motorbike"),
    ("mouse", "mouse (computer equipment)", "computer mouse"),
    ("orange", "orange (fruit)"),
    ("person", "human"),
    ("potted plant", "pottedplant"),
    ("remote", "remote control"),
    ("skis", "ski"),
    ("sports ball", "ball"),
    ("tie", "necktie", "tie (necktie)"),
    ("train", "train (railroad vehicle)", "railroad train"),
    ("tv", "television set", "television", "tv set", "tvmonitor"),
    ("wine glass", "wineglass"),
)
