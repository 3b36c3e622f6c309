"""GLIP (Li et al. 2022, *Grounded Language-Image Pre-training*) in PyTorch, with the names of microsoft/GLIP."""
