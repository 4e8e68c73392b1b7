"""Which kernel multiplies how many rows, and in what pieces.

The sizes below follow from the bytes that must be in flight on a Hopper GPU; `bench --device cuda` measures their neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from core.cuda import product_kernels
from core.cuda.groups import Groups
from core.cuda.kernels import MOST_ROWS


@dataclass(frozen=True)
class Tiles:
    """How products are cut.

    block: rows of the matrix that a program multiplies by few rows of x; parts: warps among which it divides their columns;
    columns: of a plain matrix, at a time. stages: loads under way at once. many: rows of x up to which codes are unpacked in
    registers; past it the whole matrix is unpacked and multiplied by torch.
    """

    block: int = 16
    parts: int = 4
    columns: int = 128
    stages: int = 3
    many: int = 128
    many_block: int = 64
    many_stages: int = 2


class Products:
    """Products of few, some and many rows."""

    def __init__(self, tiles: Tiles = Tiles()) -> None:
        self.tiles = tiles

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if len(x) > MOST_ROWS:
            return linear(x, weight, bias)
        (N, K), tiles = weight.shape, self.tiles
        y = x.new_empty(len(x), N)
        product_kernels.few_dense[(-(-N // tiles.block),)](
            x.contiguous(), weight, weight if bias is None else bias, y, N, len(x), K=K, HAS_BIAS=bias is not None,
            ROWS=MOST_ROWS, BLOCK=tiles.block, COLUMNS=tiles.columns, PARTS=tiles.parts, STAGES=tiles.stages,
            num_warps=tiles.parts,
        )  # fmt: skip
        return y

    def grouped_product(self, x: Tensor, groups: Groups, bias: Tensor | None) -> Tensor:
        if len(x) > self.tiles.many or x.dtype == torch.float32:  # for which there are no tensor cores
            y = linear(x, self.unpacked(groups, x.dtype))
            return y if bias is None else y.add_(bias)
        y, few = x.new_empty(len(x), groups.rows), len(x) <= MOST_ROWS
        arguments = (
            x.contiguous(), groups.words, groups.scales, _offsets(groups), groups.scales if bias is None else bias, y,
            groups.rows, len(x),
        )  # fmt: skip
        (self._few if few else self._many)(arguments, {**_shape(groups), "HAS_BIAS": bias is not None})
        return y

    def unpacked(self, groups: Groups, dtype: torch.dtype) -> Tensor:
        """The matrix [N, K] as `dtype`."""
        out = torch.empty(groups.rows, groups.columns, dtype=dtype, device=groups.words.device)
        block = self.tiles.many_block
        product_kernels.unpack[(-(-groups.rows // block), groups.chunks)](
            groups.words, groups.scales, _offsets(groups), out, groups.rows, **_shape(groups), BLOCK=block, num_warps=4
        )
        return out

    def _few(self, arguments: tuple[Any, ...], shape: dict[str, Any]) -> None:
        tiles, rows = self.tiles, arguments[-2]
        product_kernels.few_packed[(-(-rows // tiles.block),)](
            *arguments, **shape, ROWS=MOST_ROWS, BLOCK=tiles.block, PARTS=tiles.parts, STAGES=tiles.stages,
            num_warps=tiles.parts,
        )  # fmt: skip

    def _many(self, arguments: tuple[Any, ...], shape: dict[str, Any]) -> None:
        tiles, (rows, fed) = self.tiles, arguments[-2:]
        at_once = next(size for size in (16, 32, 64) if size >= min(fed, 64))
        product_kernels.many_packed[(-(-rows // tiles.many_block), -(-fed // at_once))](
            *arguments, **shape, ROWS=at_once, BLOCK=tiles.many_block, STAGES=tiles.many_stages, num_warps=4
        )


def _offsets(groups: Groups) -> Tensor:
    return groups.scales if groups.offsets is None else groups.offsets


def _shape(groups: Groups) -> dict[str, Any]:
    per, places = 16 // groups.bits, groups.group_size // (2 * groups.unit)
    run = next(run for run in (4, 2, 1) if per % run == 0 and (places % run == 0 or len(groups.scales) == 1))
    return {
        "K": groups.columns, "CHUNKS": groups.chunks, "GROUP": groups.group_size,
        "GROUPS": len(groups.scales), "BITS": groups.bits, "ZERO": groups.zero, "UNIT": groups.unit, "RUN": run,
        "HAS_OFFSETS": groups.offsets is not None,
    }  # fmt: skip
