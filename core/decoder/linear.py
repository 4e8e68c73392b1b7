"""Matrix products as objects, so that a weight technique can replace how they are stored and computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch


class Linear(ABC):
    """y = x Wᵀ + b for x [T, in] to y [T, out]."""

    out_features: int
    in_features: int

    @abstractmethod
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x [T, in] float32 to [T, out] float32."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes that one product reads: codes, scales and bias."""

    @abstractmethod
    def dense(self) -> torch.Tensor:
        """[out, in] float32: the matrix it effectively multiplies by."""


class Dense(Linear):
    """A plain matrix in float32, bfloat16 or float16."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self.weight = weight.contiguous()  # [out, in]
        self.bias = None if bias is None else bias.to(weight.dtype)
        self.out_features, self.in_features = weight.shape

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x.to(self.weight.dtype), self.weight, self.bias).float()

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def dense(self) -> torch.Tensor:
        return self.weight.float()


class Joined(Linear):
    """Several products of one input, side by side, where their formats differ."""

    def __init__(self, parts: Sequence[Linear], bias: torch.Tensor | None = None) -> None:
        self.parts, self.bias = tuple(parts), bias
        self.in_features = parts[0].in_features
        self.out_features = sum(part.out_features for part in parts)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([part(x) for part in self.parts], dim=-1)
        return y if self.bias is None else y + self.bias

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts) + (0 if self.bias is None else self.bias.nbytes)

    def dense(self) -> torch.Tensor:
        return torch.cat([part.dense() for part in self.parts])
