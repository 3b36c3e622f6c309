"""Detectors of a controlled study: different designs with the same backbone, text encoder and batches."""
