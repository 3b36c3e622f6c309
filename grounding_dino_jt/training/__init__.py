"""Training of Grounding DINO: losses, denoising, optimisation. Input is numpy batches; it reads and writes no files."""
