"""Comparative benchmark suite for open-vocabulary object detectors."""
