"""Controlled studies: trainings that differ in one thing, scored alike and compared."""
