from ovd_bench.benchmarks.api.lvis import LVIS as LVIS
from ovd_bench.benchmarks.api.lvis import LVISEval as LVISEval
from ovd_bench.benchmarks.api.lvis import LVISResults as LVISResults
from ovd_bench.benchmarks.api.lvis import Params as Params
