"""Weights in the formats of bitsandbytes, multiplied by its own kernels for the processor."""

from __future__ import annotations

import logging
from types import ModuleType

import torch
from torch import Tensor

from core.decoder.linear import Linear
from core.decoder.plan import Plan
from core.errors import BadInput
from core.weights.chosen import ChosenLayers
from core.weights.table import LayersOptions

_OUTLIER = 6.0  # inputs of this size or more are multiplied in full precision (Dettmers et al. 2022, section 3.2)
_BLOCK = 64  # weights that share a scale in NF4
_ROW_BY_ROW = 8  # up to here each row is computed as if it were alone, so that verifying a draft changes no token


class _Bitsandbytes(ChosenLayers):
    """The chosen layers' matrices in a format of bitsandbytes."""

    def __init__(self, options: LayersOptions, plan: Plan) -> None:
        self.library = _library()
        super().__init__(options.layers, plan)


class Int8(_Bitsandbytes):
    """LLM.int8(): weights and inputs in int8 with a scale for each row; large inputs beside them in full precision."""

    def quantized(self, weight: Tensor, bias: Tensor | None) -> Linear:
        return Int8Linear(self.library, weight, bias)


class Nf4(_Bitsandbytes):
    """4-bit codes for the quantiles of a normal distribution, with a scale for each block of 64."""

    def quantized(self, weight: Tensor, bias: Tensor | None) -> Linear:
        return Nf4Linear(self.library, weight, bias)


class Int8Linear(Linear):
    """codes int8 [out, in] and the largest magnitude of each row."""

    def __init__(self, library: ModuleType, weight: Tensor, bias: Tensor | None) -> None:
        self.out_features, self.in_features = weight.shape
        self.bias = None if bias is None else bias.float()
        self._functional = library.functional
        self._codes, self._largest, _ = self._functional.int8_vectorwise_quant(weight)

    def __call__(self, x: Tensor) -> Tensor:
        outliers = x.abs() >= _OUTLIER
        codes, largest, _ = self._functional.int8_vectorwise_quant(x.masked_fill(outliers, 0))
        y: Tensor = torch.ops.bitsandbytes.int8_scaled_mm(codes, self._codes, largest, self._largest, dtype=torch.float32)
        if outliers.any():
            self._add_outliers(y, x, outliers)
        return y if self.bias is None else y + self.bias

    def _add_outliers(self, y: Tensor, x: Tensor, outliers: Tensor) -> None:
        parts = range(len(x)) if len(x) <= _ROW_BY_ROW else [slice(None)]
        for part in parts:
            rows = slice(part, part + 1) if isinstance(part, int) else part
            columns = outliers[rows].any(dim=0).nonzero()[:, 0]
            held = (x[rows] * outliers[rows])[:, columns]
            y[rows] += held @ self._values(self._codes[:, columns]).T

    def _values(self, codes: Tensor) -> Tensor:
        values: Tensor = self._functional.int8_vectorwise_dequant(codes, self._largest)
        return values

    @property
    def nbytes(self) -> int:
        parts = (self._codes, self._largest, self.bias)
        return sum(part.nbytes for part in parts if part is not None)

    def dense(self) -> Tensor:
        return self._values(self._codes)


class Nf4Linear(Linear):
    """bitsandbytes' Linear4bit.

    On processors with AVX-512 BF16 it multiplies the packed codes in bfloat16; elsewhere, and for matrices whose sides its
    packing does not take, every product first restores the whole matrix, which is slow.
    """

    def __init__(self, library: ModuleType, weight: Tensor, bias: Tensor | None) -> None:
        self.out_features, self.in_features = weight.shape
        self.bias = None if bias is None else bias.float()
        self._functional = library.functional
        settings = {"compress_statistics": False, "quant_type": "nf4"}
        module = library.nn.Linear4bit(
            self.in_features, self.out_features, bias=False, compute_dtype=torch.float32, device="meta", **settings
        )
        module.weight = library.nn.Params4bit(weight, requires_grad=False, blocksize=_BLOCK, **settings).to("cpu")
        if self.out_features % 32 or self.in_features % _BLOCK:
            module.support_avx512bf16_for_cpu = False
        self._module = module.eval()
        with torch.no_grad():
            self._module(torch.zeros(1, self.in_features))  # packs the codes, where it will

    def __call__(self, x: Tensor) -> Tensor:
        y = self._row_by_row(x) if len(x) <= _ROW_BY_ROW and not self._packed else self._module(x)
        return y if self.bias is None else y + self.bias

    def _row_by_row(self, x: Tensor) -> Tensor:
        weight = self._functional.dequantize_4bit(self._module.weight, self._module.weight.quant_state)
        return torch.cat([torch.nn.functional.linear(row, weight) for row in x[:, None]])

    @property
    def _packed(self) -> bool:
        return bool(getattr(self._module.weight.quant_state, "packing_format_for_cpu", False))

    @property
    def nbytes(self) -> int:
        parts = (self._module.weight.data, self._module.weight.quant_state.absmax, self.bias)
        return sum(part.nbytes for part in parts if part is not None)

    def dense(self) -> Tensor:
        values: Tensor = self._module(torch.eye(self.in_features)).T  # whatever the packing
        return values


def _library() -> ModuleType:
    # Told of at each import, an optional kernel that would be fetched from the network is not missed here.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        import bitsandbytes
    except (ImportError, OSError, RuntimeError) as error:
        raise BadInput(
            f"weights.name: bitsandbytes cannot be loaded on this machine ({error}); "
            "weights.name=rtn has 2 to 8 bits without it"
        ) from None
    library: ModuleType = bitsandbytes
    return library
