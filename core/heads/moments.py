"""How queries, keys and values vary in each layer, seen while the model reads the calibration text, and kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from core.calibration import calibration_tokens
from core.decoder.at_work import Watched, decoder_as_stored, read_through
from core.decoder.model import Attention
from core.decoder.preparation import Preparation
from core.decoder.traits import traits_of
from core.learned import Arrays, learned

_VERSION = 1  # of what is learned and how
_WINDOWS, _TOKENS = 4, 1024  # texts that are read, and tokens of each


@dataclass(frozen=True)
class Moments:
    """Of one layer, float64. Keys and values as W_k and W_v give them: mean [2·G·D], covariance [2·G·D, 2·G·D].

    queries: second moment of each head's queries, normed and not rotated, [H, D, D].
    """

    mean: Tensor
    covariance: Tensor
    queries: Tensor


def moments(preparation: Preparation, layers: Sequence[int]) -> list[Moments]:
    """The moments of each of `layers`, from disk or learned now (stage `heads` of the progress)."""
    traits = traits_of(preparation.checkpoint.config)
    D = traits.head_size
    size = 2 * traits.kv_heads * D
    shapes = {"mean": (size,), "covariance": (size, size), "queries": (traits.query_heads, D, D)}

    def fits(arrays: Arrays) -> bool:
        return all(arrays[f"{name}{layer}"].shape == shape for name, shape in shapes.items() for layer in range(traits.layers))

    path = Path(preparation.checkpoint.info.path)
    settings = _VERSION, _WINDOWS, _TOKENS
    arrays = learned("heads", path, settings, lambda: _learned(preparation), fits)
    return [Moments(*(arrays[f"{name}{layer}"].double() for name in shapes)) for layer in layers]


def _learned(preparation: Preparation) -> Arrays:
    """Run the model as it is stored over the calibration text."""

    def progress(done: int) -> None:
        preparation.progress("heads", done, _WINDOWS + 1)

    progress(0)
    plan, decoder = decoder_as_stored(preparation, lambda: progress(0))
    length = min(_TOKENS, plan.traits.context)
    sums = [_Sums(block.attention) for block in decoder.blocks]
    for one in sums:
        one.attention.qkv = Watched(one.attention.qkv, one.add)
    tokens = calibration_tokens(preparation.tokenizer, _WINDOWS * length)
    for window in range(0, len(tokens), length):
        progress(window // length + 1)
        read_through(decoder, tokens[window : window + length])
    progress(_WINDOWS + 1)
    return _arrays(sums)


def _arrays(sums: Sequence[_Sums]) -> Arrays:
    found: Arrays = {}
    for layer, one in enumerate(sums):
        mean = one.first / one.count
        covariance = one.second / one.count - mean[:, None] * mean
        found |= {f"mean{layer}": mean.float(), f"covariance{layer}": covariance.float()}
        found |= {f"queries{layer}": (one.queries / one.count).float()}
    return found


class _Sums:
    """Of the keys and values of one layer and of their products, and of the products of its queries."""

    def __init__(self, attention: Attention) -> None:
        self.attention, self.count = attention, 0
        width, H = attention.out.in_features, attention.query_heads
        size = attention.qkv.out_features - width
        self.first, self.second = torch.zeros(size).double(), torch.zeros(size, size).double()
        self.queries = torch.zeros(H, width // H, width // H).double()

    def add(self, _x: Tensor, y: Tensor) -> None:
        """Take what the projections gave, y [T, (H + 2·G)·D]."""
        q, kv = torch.tensor_split(y, [self.attention.out.in_features], dim=-1)
        kv, heads = kv.double(), self.attention.headed(q, self.attention.q_norm).transpose(0, 1).double()  # [H, T, D]
        self.count += len(kv)
        self.first += kv.sum(dim=0)
        self.second += kv.T @ kv
        self.queries += heads.transpose(1, 2) @ heads
