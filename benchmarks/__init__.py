"""Data sets, protocols, scoring of files, comparisons, generators."""
