"""The machine: description, memory, load, readiness."""
