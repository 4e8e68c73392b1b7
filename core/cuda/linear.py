"""Products on a device: x [R, in] in the pass's own number format to [R, out] in the same."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from core.cuda.groups import Groups
from core.cuda.kernels import Kernels
from core.decoder.linear import Linear
from core.weights.packed import Codes
from core.weights.rounding import length_of_group, on_grid


class DeviceLinear(Linear):
    """A product whose matrix lies on the device and can also be looked up row by row, as an embedding is."""

    @abstractmethod
    def rows(self, tokens: Tensor) -> Tensor:
        """The rows of the matrix at `tokens` [R], float32 [R, in]."""


class Matrix(DeviceLinear):
    """A plain matrix in float32, bfloat16 or float16."""

    def __init__(self, kernels: Kernels, weight: Tensor, bias: Tensor | None) -> None:
        self.kernels, self.weight = kernels, weight.contiguous()  # [out, in]
        self.bias = None if bias is None else bias.to(weight.dtype)
        self.out_features, self.in_features = weight.shape

    def __call__(self, x: Tensor) -> Tensor:
        return self.kernels.product(x.to(self.weight.dtype), self.weight, self.bias).to(x.dtype)

    def rows(self, tokens: Tensor) -> Tensor:
        return self.weight[tokens].float()

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def dense(self) -> Tensor:
        return self.weight.float()


class Grouped(DeviceLinear):
    """Packed codes of 4 or 8 bits, multiplied by 16-bit activations without a dense copy where rows are few."""

    def __init__(self, kernels: Kernels, groups: Groups, bias: Tensor | None) -> None:
        self.kernels, self.groups = kernels, groups
        self.bias = None if bias is None else bias.float()
        self.out_features, self.in_features = groups.rows, groups.columns

    def __call__(self, x: Tensor) -> Tensor:
        return self.kernels.grouped_product(x, self.groups, self.bias)

    def rows(self, tokens: Tensor) -> Tensor:
        return self.groups.values(tokens)

    @property
    def nbytes(self) -> int:
        return self.groups.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def dense(self) -> Tensor:
        return self.groups.values()


class OnDevice:
    """The form of matrices on `device` (core/weights/form.py)."""

    def __init__(self, kernels: Kernels, device: torch.device) -> None:
        self.kernels, self.device = kernels, device

    def dense(self, weight: Tensor, bias: Tensor | None) -> DeviceLinear:
        return Matrix(self.kernels, weight.to(self.device), self._moved(bias))

    def packed(self, codes: Codes, bias: Tensor | None) -> DeviceLinear:
        offsets = None if codes.offsets is None else torch.from_numpy(codes.offsets).to(self.device)
        values, scales = (torch.from_numpy(part).to(self.device) for part in (codes.codes, codes.scales))
        return self._grouped(values, scales, offsets, codes.bits, codes.group_size, bias)

    def rounded(self, weight: Tensor, bits: int, group_size: int, bias: Tensor | None) -> DeviceLinear:
        parts = on_grid(weight.to(self.device), bits, group_size)
        return self._grouped(*parts, bits, length_of_group(weight.shape[1], group_size), bias)

    def _grouped(
        self, codes: Tensor, scales: Tensor, offsets: Tensor | None, bits: int, group_size: int, bias: Tensor | None
    ) -> DeviceLinear:
        return Grouped(self.kernels, Groups.of(codes, scales, offsets, bits, group_size), self._moved(bias))

    def _moved(self, bias: Tensor | None) -> Tensor | None:
        return None if bias is None else bias.to(self.device)
