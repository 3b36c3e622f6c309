"""From embeddings to scores."""

from __future__ import annotations

from torch import Tensor


def class_probabilities(regions: Tensor, texts: Tensor, scale: float) -> Tensor:
    """Softmax over all texts for each region, as in CLIP's training.

    Args:
        regions: (n, d), unit vectors.
        texts: (K, d), one vector per class.
        scale: factor of the cosines, one over the temperature.

    Returns:
        (K, n), columns sum to 1.
    """
    return (texts @ regions.T * scale).softmax(dim=0)


def fused_scores(probabilities: Tensor, objectness: Tensor, exponent: float) -> Tensor:
    """Weighted geometric mean ``objectness ** exponent * probability ** (1 - exponent)``.

    ViLD (arXiv:2104.13921, section 3.4) combines the scores of two heads this way. A class probability alone ranks
    parts and background as high as objects, because the class probabilities of every region add up to one.

    Args:
        probabilities: (K, n), 0 … 1.
        objectness: (n,), 0 … 1.
        exponent: 0 = the class alone, 1 = the objectness alone.

    Returns:
        (K, n).
    """
    return objectness**exponent * probabilities ** (1 - exponent)
