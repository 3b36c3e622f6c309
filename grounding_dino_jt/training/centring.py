"""The mean vector of the training names, which is subtracted from centred text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ovd_bench.grounding_dino_jt.model import GroundingDino
from ovd_bench.grounding_dino_jt.tokens import BERT_SEPARATORS, TokenBatch
from ovd_bench.kernels.runtime import jittor

jt = jittor()

#: Name of the parameter that holds it; it is computed and not trained.
TEXT_MEAN = "text_mean"
_CLS, _SEP, _DOT = BERT_SEPARATORS[:3]
#: Phrases that go through the encoder together.
_AT_ONCE = 256


def centre_text(network: GroundingDino, phrases: Sequence[Sequence[int]]) -> None:
    """Set ``text_mean`` to the mean of the unit vectors of some phrases, as the text encoder is now.

    Args:
        network: with ``config.text.centred``.
        phrases: token ids, without separators; each once.

    Raises:
        ValueError: no phrase.
    """
    if not phrases:
        raise ValueError("a centred text encoder needs the phrases of its training, and there is none")
    width = network.config.text.hidden_size
    network.text_mean.assign(jt.zeros((width,)))
    total = np.zeros(width)
    with jt.no_grad():
        for begin in range(0, len(phrases), _AT_ONCE):
            part = phrases[begin : begin + _AT_ONCE]
            read = network.read_tokens(TokenBatch.of([[_CLS, *ids, _DOT, _SEP] for ids in part])).numpy()
            total += sum(row[1 : 1 + len(ids)].mean(0, dtype=np.float64) for row, ids in zip(read, part, strict=True))
    network.text_mean.assign(jt.array((total / len(phrases)).astype(np.float32)).stop_grad())
