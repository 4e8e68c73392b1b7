"""Products of many bfloat16 rows with packed weights on the processor's matrix tiles.

Weights are unpacked two columns at a time over sixteen output rows, and that is a row of a tile: so a thread unpacks some of
its output rows into its second-level cache and multiplies all input rows with them there; the dense matrix is never in memory.
Every input row is summed in the same order whatever rows are computed with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from core.compiled.arithmetic import gated
from core.compiled.crew import crew
from core.compiled.emitter import LANES, VF32, Emitter, Value, number
from core.compiled.jit import callable_at
from core.compiled.numbers import write
from core.compiled.tiles import COLUMNS, LINE, SIDE, TILE, Factor, Tiles, configuration, narrowed, paired, room
from core.weights.kernel import Format
from core.weights.unpacking import scales_of, unpacked_columns

_NEAR = 3 << 18  # bytes of weights, and of input rows, that stay in a thread's second-level cache
_NAMES = "codes scales offsets x y room config groups units ldy rows blocks strips chunk first last"
_ARGUMENTS = len(_NAMES.split())


@dataclass(frozen=True)
class Stored:
    """A packed matrix [N, K = groups · width], N padded to whole blocks of sixteen: two at least. K fills whole tiles."""

    form: Format
    codes: np.ndarray
    scales: np.ndarray
    offsets: np.ndarray | None
    groups: int
    width: int


def multiplied(stored: Stored, x: torch.Tensor, gelu: bool | None = None) -> torch.Tensor:
    """x Wᵀ [T, N] bfloat16 for x bfloat16 [T, K]; rows are padded to a multiple of SIDE, quickest where they are already.

    gelu: instead act(g) · u [T, N / 2], where g are the first half of the outputs and u the other, of N / 2 = whole blocks.
    """
    rows, blocks, strip = -(-len(x) // SIDE) * SIDE, len(stored.codes), 2 * SIDE * stored.groups * stored.width
    y = torch.empty(rows, blocks * LANES // (1 if gelu is None else 2), dtype=torch.bfloat16)
    if rows > len(x):
        x = torch.cat((x, x.new_zeros(rows - len(x), x.shape[1])))
    x = x.contiguous()
    strips = max(1, _NEAR // strip)
    team, run = crew(torch.get_num_threads()), callable_at(tiled_product(stored.form, gelu), _ARGUMENTS)
    offsets = 0 if stored.offsets is None else stored.offsets.ctypes.data
    addresses = stored.codes.ctypes.data, stored.scales.ctypes.data, offsets, x.data_ptr(), y.data_ptr()
    shape = stored.groups, stored.width // stored.form.unit, y.shape[1], rows, blocks, strips, strips * SIDE

    def work(first: int, last: int) -> None:
        run(*addresses, room(strips * strip + 4 * TILE), configuration().ctypes.data, *shape, first, last)

    team.share(-(-blocks // 2), work)
    return y


@cache
def tiled_product(form: Format, gelu: bool | None = None) -> int:
    """The address of the compiled product, or gated product; see `multiplied`.

    Called with addresses: codes, scales, offsets, x bfloat16 [rows, groups · units · unit], y bfloat16 [rows, ldy], room of
    this thread and the configuration of tiles; then groups, units a group, ldy, rows, blocks of sixteen output rows, how many
    strips of two blocks are unpacked at a time, how many rows are multiplied with them in turn, and the first and last strip.
    """
    e = Emitter(f"tiled_{form.bits}_{form.symmetric:d}_{form.half:d}_{gelu}", _NAMES)
    _Product(e, form, gelu).emit()
    return e.finish()


class _Product:
    def __init__(self, e: Emitter, form: Format, gelu: bool | None) -> None:
        self.e, self.form, self.gelu, self.tiles = e, form, gelu, Tiles(e)
        self.unit_bytes = 2 * form.unit * form.bits
        columns = e.b.mul(e.b.mul(e.groups, e.units), number(form.unit))
        self.count = e.b.udiv(columns, number(COLUMNS))
        self.block_bytes = e.b.mul(self.count, number(TILE))  # of unpacked weights
        self.x_bytes, self.y_bytes = (e.b.mul(count, number(2)) for count in (columns, e.ldy))
        self.sums, self.weights = e.room, e.b.add(e.room, number(4 * TILE))

    def emit(self) -> None:
        self.tiles.configure(self.e.config)
        self.e.loop(self.e.first, self.e.last, [], lambda first, _: self._some(first), step=self.e.strips)
        self.tiles.release()

    def _some(self, first: Value) -> list[Value]:
        """Unpack some strips and multiply all rows with them, so many at a time."""
        e = self.e
        last = e.least(e.b.add(first, e.strips), e.last)
        e.loop(first, last, [], lambda strip, _: self._unpack(first, strip))

        def chunk(row: Value, _: list[Value]) -> list[Value]:
            end = e.least(e.b.add(row, e.chunk), e.rows)
            e.loop(first, last, [], lambda strip, _: self._strip(first, strip, row, end))
            return []

        e.loop(number(0), e.rows, [], chunk, step=e.chunk)
        return []

    def _blocks(self, strip: Value) -> tuple[Value, Value]:
        """A strip's two blocks: a gate's and what it gates, or neighbours; the last ones may begin within those before."""
        b = self.e.b
        if self.gelu is not None:
            return strip, b.add(strip, b.udiv(self.e.blocks, number(2)))
        first = self.e.least(b.mul(strip, number(2)), b.sub(self.e.blocks, number(2)))
        return first, b.add(first, number(1))

    def _of_strip(self, first: Value, strip: Value) -> Value:
        b = self.e.b
        return b.add(self.weights, b.mul(b.sub(strip, first), b.mul(self.block_bytes, number(2))))

    def _unpack(self, first: Value, strip: Value) -> list[Value]:
        target = self._of_strip(first, strip)
        for block in self._blocks(strip):
            target = self._unpack_block(block, target)
        return []

    def _unpack_block(self, block: Value, target: Value) -> Value:
        e, group0 = self.e, self.e.b.mul(block, self.e.groups)
        starts = [e.at(e.codes, e.b.mul(group0, e.units), self.unit_bytes), target]
        return e.loop(number(0), e.groups, starts, lambda g, at: self._unpack_group(e.b.add(group0, g), at))[1]

    def _unpack_group(self, group: Value, carried: list[Value]) -> list[Value]:
        e = self.e
        scale, offset = scales_of(e, self.form, group)

        def unit(_: Value, inner: list[Value]) -> list[Value]:
            codes, target = inner
            columns = unpacked_columns(e, self.form, codes, scale, offset)
            for index, pair in enumerate(columns):
                e.store(paired(e, *pair), e.b.add(target, number(LINE * index)), LINE)
            return [e.b.add(codes, number(self.unit_bytes)), e.b.add(target, number(LINE * len(columns)))]

        return e.loop(number(0), e.units, carried, unit)

    def _strip(self, first: Value, strip: Value, row: Value, end: Value) -> list[Value]:
        e, weights = self.e, self._of_strip(first, strip)
        y = e.at(e.y, self._blocks(strip)[0], 2 * LANES)
        e.loop(row, end, [], lambda r, _: self._square(weights, y, r), step=SIDE)
        return []

    def _square(self, weights: Value, y: Value, row: Value) -> list[Value]:
        b = self.e.b
        x = b.add(self.e.x, b.mul(row, self.x_bytes))
        self.tiles.clear()
        left = Factor(x, b.mul(self.x_bytes, number(LANES)), self.x_bytes, number(LINE))
        self.tiles.add(self.count, left, Factor(weights, self.block_bytes, number(LINE), number(TILE)))
        self.tiles.store(self.sums, number(2 * LINE))
        self.e.loop(number(0), number(SIDE), [], lambda r, _: self._write(r, b.add(y, b.mul(b.add(row, r), self.y_bytes))))
        return []

    def _write(self, row: Value, y: Value) -> list[Value]:
        e = self.e
        source = e.at(self.sums, row, 2 * LINE)
        first, second = (e.load(e.b.add(source, number(LINE * half)), VF32, LINE) for half in range(2))
        if self.gelu is None:
            e.store(narrowed(e, first, second), y, 2)
        else:
            write(e, gated(e, first, second, self.gelu), y, torch.bfloat16)
        return []
