"""Modules that programs import as ``ovd_bench.NAME``; the root's ``__init__.py`` adds this folder to its path.

They do not lie in the root: Python puts the working directory first, and ``lvis.py`` in the root of a checkout would
hide the package ``lvis``. For type checkers there are stubs in the root.
"""
