"""DINO (Zhang et al. 2022) with fixed classes, built from this suite's layers of Grounding DINO."""
