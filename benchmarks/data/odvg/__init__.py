"""ODVG, the training files of Grounding DINO: records, index, and how other annotation files become it."""
