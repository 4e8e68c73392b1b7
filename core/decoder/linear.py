"""Matrix products as objects, so that a weight technique can replace how they are stored and computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache

import torch

from core.decoder.threads import one_thread


@dataclass(frozen=True)
class Part:
    """A product as compiled code sees it: addresses of codes, scales and offsets, and blocks of sixteen output rows.

    function: address of the compiled product (core/weights/kernel.py). groups: of input columns that share a scale; 0 for a
    dense matrix, whose `units` are its input columns.
    """

    function: int
    codes: int
    scales: int
    offsets: int
    groups: int
    units: int
    blocks: int
    rows: int


@cache
def quick_dtype() -> torch.dtype:
    """The number format in which this processor multiplies many rows fastest: bfloat16 or float32."""
    quick = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if quick else torch.float32


def widest(dtypes: Sequence[torch.dtype | None]) -> torch.dtype | None:
    """The format that rounds none of these; None where one of them is None."""
    if None in dtypes:
        return None
    return torch.float32 if torch.float32 in dtypes else torch.bfloat16


class Linear(ABC):
    """y = x Wᵀ + b for x [T, in] to y [T, out]."""

    out_features: int
    in_features: int
    bias: torch.Tensor | None = None

    def parts(self) -> list[Part] | None:
        """The product without its bias as compiled code, in order of output rows; None where it has no such form."""
        return None

    @property
    def many_dtype(self) -> torch.dtype | None:
        """The format that `many` is quickest in without rounding what is stored in more bits; None where there is no `many`."""
        return None

    def many(self, x: torch.Tensor) -> torch.Tensor:
        """The product without its bias of x [T, in] to [T, out], in the format of x, for many rows.

        Bfloat16 is summed in float32, and weights are rounded to it if they are not so stored.
        """
        raise NotImplementedError

    def many_gated(self, x: torch.Tensor, gelu: bool) -> torch.Tensor | None:
        """act(g) · u [T, out / 2] of the halves of `many`, g and u, where it can be had in one; act is SiLU or GELU."""
        return None

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
    def many_dtype(self) -> torch.dtype:
        return quick_dtype() if self.weight.dtype == torch.bfloat16 else torch.float32

    def many(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.weight.to(x.dtype))

    def parts(self) -> list[Part] | None:
        from core.compiled.emitter import LANES
        from core.weights.dense_kernel import dense_product

        if self.weight.device.type != "cpu" or self.out_features % LANES:
            return None
        address, blocks = dense_product(self.weight.dtype), self.out_features // LANES
        return [Part(address, self.weight.data_ptr(), 0, 0, 0, self.in_features, blocks, self.out_features)]

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def dense(self) -> torch.Tensor:
        return self.weight.float()


class Joined(Linear):
    """Several products of one input, side by side, where their formats differ."""

    def __init__(self, linears: Sequence[Linear], bias: torch.Tensor | None = None) -> None:
        self.linears, self.bias = tuple(linears), bias
        self.in_features = linears[0].in_features
        self.out_features = sum(linear.out_features for linear in linears)

    @property
    def many_dtype(self) -> torch.dtype | None:
        """The narrowest of the parts': those that it would round take their own."""
        dtypes = [linear.many_dtype for linear in self.linears]
        return torch.bfloat16 if torch.bfloat16 in dtypes and None not in dtypes else widest(dtypes)

    def many(self, x: torch.Tensor) -> torch.Tensor:
        small = [isinstance(linear, Dense) for linear in self.linears]
        alone = nullcontext if all(small) else one_thread
        parts = []
        for linear, dense in zip(self.linears, small, strict=True):
            with alone() if dense else nullcontext():
                taken = x.to(torch.promote_types(x.dtype, linear.many_dtype or x.dtype))
                parts.append(linear.many(taken).to(x.dtype))
        with alone():
            return torch.cat(parts, dim=-1)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([linear(x) for linear in self.linears], dim=-1)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def parts(self) -> list[Part] | None:
        lists = [linear.parts() for linear in self.linears]
        if any(parts is None for parts in lists) or any(linear.out_features % 16 for linear in self.linears[:-1]):
            return None
        return [part for parts in lists for part in parts or ()]

    @property
    def nbytes(self) -> int:
        return sum(linear.nbytes for linear in self.linears) + (0 if self.bias is None else self.bias.nbytes)

    def dense(self) -> torch.Tensor:
        return torch.cat([linear.dense() for linear in self.linears])
