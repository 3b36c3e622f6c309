"""Data sets: cards, locations of their files, conversion and verification."""
