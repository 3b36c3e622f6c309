"""Scores of classes from a logit per box and token, as tensors on the device of a network in PyTorch."""

from __future__ import annotations

import torch


def mean_probabilities(logits: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """As ``token_scores.class_scores``.

    Args:
        logits: (..., Q, n), of Q boxes and n tokens.
        shares: (K, n), see ``Caption.shares``.

    Returns:
        (..., K, Q).
    """
    return shares @ logits.sigmoid().transpose(-1, -2)
