"""Data sets of other tools as COCO instances: YOLO and Pascal VOC."""
