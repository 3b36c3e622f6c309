"""Cache of the output of a frozen text encoder, per phrase."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.model import GroundingDino
from ovd_bench.grounding_dino_jt.tokens import BERT_SEPARATORS, TokenBatch, phrase_parts
from ovd_bench.kernels.runtime import jittor

jt = jittor()

_Floats = npt.NDArray[np.float32]


class FrozenText:
    """Text encoder output, computed once for each phrase.

    This is exact, since a phrase and its dot attend only to each other and to their frame if there is one (prompt
    ``phrase`` and ``sentence``), so the output does not depend on the rest of the caption. [CLS], [SEP] and padding
    attend only to themselves.

    Args:
        network: with a frozen BERT.
        phrases_at_once: number of uncached phrases that go through the encoder together.
        most: maximum number of cached phrases; when it is exceeded, the cache is cleared. A phrase takes about 6 kB
            with MiniLM.
    """

    def __init__(self, network: GroundingDino, phrases_at_once: int = 256, most: int = 100_000) -> None:
        if network.config.text.kind != "bert" or network.config.prompt == "word":
            raise ValueError("only BERT's output for separate phrases can be kept")
        self._network, self._at_once, self._most = network, phrases_at_once, most
        self._known: dict[tuple[int, ...], _Floats] = {}

    def __call__(self, tokens: TokenBatch) -> Any:
        """Output of ``GroundingDino.read_tokens``, (B, n, hidden_size), without gradients; zeros at padding."""
        columns = tokens.ids.shape[1]
        rows = [phrase_parts(ids[real].tolist(), columns) for ids, real in zip(tokens.ids, tokens.real, strict=True)]
        if len(self._known) > self._most:
            self._known.clear()
        self._learn({part for row in rows for part in row} - self._known.keys())
        encoded = np.zeros((*tokens.ids.shape, self._network.config.text.hidden_size), np.float32)
        for image, row in enumerate(rows):
            hidden = np.concatenate([self._known[part] for part in row])
            encoded[image, : len(hidden)] = hidden
        return jt.array(encoded)

    def _learn(self, unknown: set[tuple[int, ...]]) -> None:
        ordered = sorted(unknown)
        for begin in range(0, len(ordered), self._at_once):
            part = ordered[begin : begin + self._at_once]
            # between a separator at the front and one at the end, which are alone themselves
            batch = TokenBatch.of([[BERT_SEPARATORS[0], *ids, BERT_SEPARATORS[1]] for ids in part])
            with jt.no_grad():
                hidden = self._network.read_tokens(batch).numpy()
            for row, ids in zip(hidden, part, strict=True):
                self._known[ids] = row[1 : 1 + len(ids)].copy()
