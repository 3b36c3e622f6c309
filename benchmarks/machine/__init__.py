"""The machine: what it is, how much memory and load it has, whether it is ready."""
