"""Models that no package provides, in PyTorch."""
