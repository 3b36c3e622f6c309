"""What ``pyproject.toml`` cannot say: the folders of the repository are packages of ``ovd_bench``."""

from setuptools import find_namespace_packages, setup

_INSTALLED = ("baselines", "benchmarks", "detectors", "grounding_dino_jt", "kernels", "metrics")

# Folders without ``__init__.py`` count: they hold weights, configurations and sources that are compiled on first use.
_PACKAGES = find_namespace_packages(include=[pattern for name in _INSTALLED for pattern in (name, f"{name}.*")])

setup(
    script_name="setup.py",  # setuptools leaves the module of this name out; a build back end is run by another name
    package_dir={"ovd_bench": "."},
    packages=["ovd_bench", *(f"ovd_bench.{name}" for name in _PACKAGES if "__pycache__" not in name)],
)
