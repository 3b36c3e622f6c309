"""DINO (Zhang et al. 2022) with fixed classes, of the layers of Grounding DINO in this suite."""
