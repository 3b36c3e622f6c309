"""Grounding DINO in Jittor. Importing this package imports no framework; ``grounding_dino_jt.load`` does."""
