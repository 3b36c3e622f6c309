"""pycocotools' classes over the suite's engine: ``from ovd_bench.coco import COCO, COCOeval``."""

from ovd_bench.benchmarks.api.coco import COCO, COCOeval, Params

__all__ = ["COCO", "COCOeval", "Params"]
