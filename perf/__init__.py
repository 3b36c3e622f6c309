"""Timings of the suite's own machinery against other libraries. Not part of any score."""
