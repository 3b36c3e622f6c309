"""Speed, memory and size of detectors, each in a process of its own: ``bench speed``."""
