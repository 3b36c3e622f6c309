"""Training of Grounding DINO: losses, denoising, optimisation. Eats plain numpy batches, reads and writes no file."""
