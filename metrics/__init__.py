"""Metrics: pure functions from (ground truth, predictions, protocol) to a result. Numpy in, dataclasses out."""
