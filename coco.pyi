from ovd_bench.benchmarks.api.coco import COCO as COCO
from ovd_bench.benchmarks.api.coco import COCOeval as COCOeval
from ovd_bench.benchmarks.api.coco import Params as Params
