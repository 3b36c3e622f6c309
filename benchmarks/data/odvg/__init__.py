"""ODVG, the training files of Grounding DINO: records, index, and conversion from other annotation files."""
