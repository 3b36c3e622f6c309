"""Storage of runs: folders, result files, protocols, contamination."""
