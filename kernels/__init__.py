"""Operators that the frameworks lack, and the Jittor runtime. Importing this package imports no framework."""
