"""How the matrices of a weight technique are held where products are computed."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from core.decoder.linear import Dense, Linear
from core.weights.packed import Codes, Packed
from core.weights.rounding import quantize


class Form(Protocol):
    """Makes products of what a technique decided; biases [out] or None."""

    def dense(self, weight: Tensor, bias: Tensor | None) -> Linear:
        """With a matrix [out, in] in its own number format."""

    def packed(self, codes: Codes, bias: Tensor | None) -> Linear:
        """With codes that a file stores."""

    def rounded(self, weight: Tensor, bits: int, group_size: int, bias: Tensor | None) -> Linear:
        """With weight [out, in] float32 rounded to a grid (core/weights/rounding.py)."""


class OnProcessor:
    """Plain tensors, and codes packed for vector code."""

    def dense(self, weight: Tensor, bias: Tensor | None) -> Linear:
        return Dense(weight, bias)

    def packed(self, codes: Codes, bias: Tensor | None) -> Linear:
        return Packed(codes, bias)

    def rounded(self, weight: Tensor, bits: int, group_size: int, bias: Tensor | None) -> Linear:
        return Packed(quantize(weight.numpy(), bits, group_size), bias)


PROCESSOR = OnProcessor()
