"""Timings of the suite against other libraries, profiles and simulations. Not part of any score."""
