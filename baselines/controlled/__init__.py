"""Detectors of a controlled study: one backbone, one text encoder, one stream of batches, different designs."""
