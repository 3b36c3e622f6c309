"""Predictions to metrics, tables, plots and comparisons."""
