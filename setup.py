"""What ``pyproject.toml`` cannot say: the folders of the repository are packages of ``ovd_bench``."""

from setuptools import find_packages, setup

_INSTALLED = ("baselines", "benchmarks", "detectors", "grounding_dino_jt", "kernels", "metrics")

setup(
    package_dir={"ovd_bench": "."},
    packages=["ovd_bench", *(f"ovd_bench.{name}" for name in find_packages() if name.split(".")[0] in _INSTALLED)],
)
