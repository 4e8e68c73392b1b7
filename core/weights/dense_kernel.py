"""Products with row-major matrices of float32, bfloat16 or float16, for a few input rows.

Each number of the file is widened to float32 once for all input rows. As with packed products, an input row goes through
the same operations whatever rows are computed with it.
"""

from __future__ import annotations

from functools import cache, partial

import torch

from core.compiled.emitter import F32, LANES, Emitter, Value, constant, number
from core.compiled.jit import register_lanes
from core.compiled.numbers import read
from core.weights.kernel import MOST_ROWS, NAMES


@cache
def dense_product(dtype: torch.dtype) -> int:
    """The address of the compiled product; it is called like a packed one.

    `units` stands for the number of input columns; scales, offsets and groups are not read, and x is float32.
    """
    e = Emitter(f"dense_{dtype}".replace(".", "_"), NAMES)
    e.cases(e.rows, range(1, MOST_ROWS + 1), lambda rows: _Product(e, dtype, rows).emit())
    return e.finish()


class _Product:
    """The product of `rows` input rows with a few matrix rows at a time."""

    def __init__(self, e: Emitter, dtype: torch.dtype, rows: int) -> None:
        self.e, self.dtype, self.rows = e, dtype, rows
        heights = (4, 4, 4, 4, 2, 2, 2, 2) if register_lanes() == 16 else (8, 4, 4, 2, 2, 2, 1, 1)
        self.height = heights[rows - 1]  # matrix rows side by side: as many sums as there are registers for
        self.row_bytes = e.b.mul(e.units, number(dtype.itemsize))

    def emit(self) -> None:
        first, last = (self.e.b.mul(block, number(LANES)) for block in (self.e.first, self.e.last))
        self.e.loop(first, last, [], lambda n, _: self._strip(n), step=self.height)

    def _strip(self, n: Value) -> list[Value]:
        e = self.e
        weights = [e.b.add(e.codes, e.b.mul(e.b.add(n, number(i)), self.row_bytes)) for i in range(self.height)]
        inputs = [e.b.add(e.x, e.b.mul(e.units, number(4 * row))) for row in range(self.rows)]
        starts = [constant(F32, 0.0)] * (self.height * self.rows)
        sums = e.sweep(number(0), e.units, starts, partial(self._columns, weights, inputs), e.b.fadd, register_lanes())
        for index, total in enumerate(sums):
            i, row = divmod(index, self.rows)
            e.store(total, e.at(e.y, e.b.add(e.b.mul(e.ldy, number(row)), e.b.add(n, number(i))), 4))
        return []

    def _columns(self, weights: list[Value], inputs: list[Value], k: Value, sums: list[Value], lanes: int) -> list[Value]:
        e, added = self.e, []
        x = [read(e, e.at(address, k, 4), torch.float32, lanes) for address in inputs]
        for i, row in enumerate(weights):
            address = e.at(row, k, self.dtype.itemsize)
            if lanes > 1:
                e.prefetch(e.b.add(address, e.b.mul(self.row_bytes, number(self.height))))
            weight = read(e, address, self.dtype, lanes)
            added += [e.fma(weight, x[r], sums[i * self.rows + r]) for r in range(self.rows)]
        return added
