"""Products with packed weights, in integers: codes of 2 to 8 bits times activations of 16 bits.

Sixteen output rows are computed side by side, one in each vector lane, so that a packed matrix is read once, in order, and
unpacked in registers for all T rows of the input. An input row is held as 16-bit integers with a scale for each group of
columns, which adds at most 2⁻¹⁶ of the group's largest value to any of them; the codes are the file's own. Sums of a
group are exact, and every input row goes through the same float operations whatever T is, so a product of five rows
equals five products of one row bit for bit; lossless speculation rests on that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
from numba import njit

from core.compiled.emitter import F16, F32, I16, I32, LANES, VF32, VI32, Emitter, Value, constant, number, vector
from core.compiled.jit import register_lanes, summing_lanes

MOST_ROWS = 8  # input rows of one pass over the matrix
_STRIDE = 32  # columns multiplied between two looks at a loop's end; any unit divides it
PLANES = {8: (8,), 7: (4, 2, 1), 6: (4, 2), 5: (4, 1), 4: (4,), 3: (2, 1), 2: (2,)}
NAMES = "codes scales offsets x x_scales x_sums x_shares y groups units ldy first last rows"  # arguments of every product
ARGUMENTS = len(NAMES.split())
LARGEST = 32767  # of a 16-bit activation
PREFETCHED = 4096  # bytes ahead
_PAIRS = vector(I16, 2 * LANES)  # two neighbouring columns of sixteen rows


@dataclass(frozen=True)
class Format:
    """How a packed matrix is stored. half: scales (and offsets) are float16, else float32.

    symmetric: a code q means (q − 2^(bits−1)) · scale, and there are no offsets; else q · scale + offset.
    """

    bits: int
    symmetric: bool
    half: bool

    @property
    def unit(self) -> int:
        """Columns unpacked together: what 32 bits hold of the thinnest plane."""
        return 32 // PLANES[self.bits][-1]

    @property
    def longest(self) -> int:
        """Columns whose products certainly fit a 32-bit sum."""
        return (1 << 31) // (((1 << self.bits) - 1) * LARGEST) // self.unit * self.unit


@cache
def product(format: Format) -> int:
    """The address of the compiled product for up to MOST_ROWS input rows.

    Called with addresses: codes, scales, offsets, x int16 [rows, groups · units · unit], its scales float32, sums int32 and
    shares float32 (scale · sum) [rows, groups], y float32 [rows, ldy]; then groups, units a group, ldy, the first and last
    block of sixteen output rows, and rows.
    """
    e = Emitter(f"packed_{format.bits}_{format.symmetric:d}_{format.half:d}", NAMES)
    e.cases(e.rows, range(1, MOST_ROWS + 1), lambda rows: _Product(e, format, rows).emit())
    return e.finish()


class _Product:
    """The product of `rows` input rows: loops over blocks of output rows, over groups, and over units within them."""

    def __init__(self, e: Emitter, format: Format, rows: int) -> None:
        self.e, self.format, self.rows = e, format, rows
        # Sums kept apart hide the latency of a product and sum in one instruction, where registers suffice.
        self.chains = (4, 4, 4, 4, 2, 2, 2, 2)[rows - 1] if register_lanes() == 16 else 1
        self.unit_bytes = 2 * format.unit * format.bits
        self.row_bytes = e.b.mul(e.b.mul(e.groups, e.units), number(2 * format.unit))

    def emit(self) -> None:
        self.e.loop(self.e.first, self.e.last, [], lambda block, _: self._block(block))

    def _block(self, block: Value) -> list[Value]:
        e = self.e
        group0 = e.b.mul(block, e.groups)
        codes = e.at(e.codes, e.b.mul(group0, e.units), self.unit_bytes)
        x = e.x

        def group(index: Value, carried: list[Value]) -> list[Value]:
            codes, x, *totals = carried
            parts = [self._start(row, index) for row in range(self.rows)]
            codes, x, *flat = self._units([codes, x, *chain.from_iterable(parts)])
            sums = [flat[row * self.chains : (row + 1) * self.chains] for row in range(self.rows)]
            return [codes, x, *self._scaled(e.b.add(group0, index), index, totals, sums)]

        zero = constant(VF32, 0.0)
        _, _, *totals = e.loop(number(0), e.groups, [codes, x, *[zero] * self.rows], group)
        y = e.at(e.y, block, 4 * LANES)
        for row, total in enumerate(totals):
            e.store(total, e.at(y, e.b.mul(e.ldy, number(row)), 4))
        return []

    def _start(self, row: int, group: Value) -> list[Value]:
        """Where the integer sums of a row begin: with what a symmetric code's zero takes away."""
        zeros = [constant(VI32, 0)] * self.chains
        if self.format.symmetric:
            away = self.e.b.mul(self._of_row(self.e.x_sums, row, group, I32), constant(I32, -(1 << (self.format.bits - 1))))
            zeros[0] = self.e.spread(away)
        return zeros

    def _of_row(self, base: Value, row: int, group: Value, kind: Any) -> Value:
        return self.e.load(self.e.at(base, self.e.b.add(self.e.b.mul(self.e.groups, number(row)), group), 4), kind, 4)

    def _units(self, carried: list[Value]) -> list[Value]:
        """All units of a group: whole strides, and then what is left."""
        e, several = self.e, _STRIDE // self.format.unit
        strides = e.b.udiv(e.units, number(several))

        def stride(_: Value, inner: list[Value]) -> list[Value]:
            for _ in range(several):
                inner = self._unit(inner)
            return inner

        carried = e.loop(number(0), strides, carried, stride)
        if several == 1:
            return carried
        return e.loop(e.b.mul(strides, number(several)), e.units, carried, lambda _, inner: self._unit(inner))

    def _unit(self, carried: list[Value]) -> list[Value]:
        """Unpack a unit of columns and multiply it into the sums of every row."""
        e = self.e
        codes, x, *sums = carried
        e.prefetch(e.b.add(codes, number(PREFETCHED)))
        for pair, weight in enumerate(unpacked_pairs(e, self.format, codes)):
            for row in range(self.rows):
                address = e.b.add(x, e.b.add(e.b.mul(self.row_bytes, number(row)), number(4 * pair)))
                value = e.b.bitcast(e.spread(e.load(address, I32, 4)), _PAIRS)
                at = row * self.chains + pair % self.chains
                sums[at] = word_sums(e, sums[at], weight, value)
        return [e.b.add(codes, number(self.unit_bytes)), e.b.add(x, number(2 * self.format.unit)), *sums]

    def _scaled(self, at: Value, group: Value, totals: list[Value], sums: list[list[Value]]) -> list[Value]:
        """Add the group's sums, scaled and offset, to the totals of every row."""
        e, scaled = self.e, []
        scale = scale_of(e, self.format, e.scales, at)
        offset = None if self.format.symmetric else scale_of(e, self.format, e.offsets, at)
        for row, (total, chains) in enumerate(zip(totals, sums, strict=True)):
            whole = chains[0]
            for other in chains[1:]:
                whole = e.b.add(whole, other)
            x_scale = e.spread(self._of_row(e.x_scales, row, group, F32))
            total = e.fma(e.b.sitofp(whole, VF32), e.b.fmul(scale, x_scale), total)
            if offset is not None:
                total = e.fma(offset, e.spread(self._of_row(e.x_shares, row, group, F32)), total)
            scaled.append(total)
        return scaled


def pair_sums(e: Emitter, a: Value, b: Value) -> Value:
    """a₀b₀ + a₁b₁ in each of the sixteen lanes; one instruction on x86 (pmaddwd)."""
    build, wide = e.b, vector(I32, 2 * LANES)
    products = build.mul(build.sext(a, wide), build.sext(b, wide))
    return build.add(*(e.picked(products, products, range(start, 2 * LANES, 2)) for start in (0, 1)))


def word_sums(e: Emitter, total: Value, a: Value, b: Value) -> Value:
    """total + a₀b₀ + a₁b₁ in each of the sixteen lanes."""
    if summing_lanes():
        return _in_one(e, "vpdpwssd", total, a, b)
    return e.b.add(total, pair_sums(e, a, b))


def byte_sums(e: Emitter, total: Value, codes: Value, digits: Value) -> Value:
    """total + a₀b₀ + a₁b₁ + a₂b₂ + a₃b₃ in each of the sixteen lanes, a the bytes of `codes`, b those of `digits`, signed."""
    if summing_lanes():
        return _in_one(e, "vpdpbusd", total, codes, digits)
    eight = constant(_PAIRS, 8)
    codes, digits = (e.b.bitcast(x, _PAIRS) for x in (codes, digits))
    low = pair_sums(e, e.b.and_(codes, constant(_PAIRS, 0xFF)), e.b.ashr(e.b.shl(digits, eight), eight))
    return e.b.add(total, e.b.add(low, pair_sums(e, e.b.lshr(codes, eight), e.b.ashr(digits, eight))))


def _in_one(e: Emitter, name: str, total: Value, *factors: Value) -> Value:
    """Products and their sums in one instruction, or in one for each half."""
    lanes = summing_lanes()
    operands = total, *(e.b.bitcast(x, VI32) for x in factors)
    parts = [[e.part(x, first, lanes) for x in operands] for first in range(0, LANES, lanes)]
    return e.concatenated([e.call(f"llvm.x86.avx512.{name}.{32 * lanes}", part[0].type, *part) for part in parts])


def unpacked_pairs(e: Emitter, format: Format, codes: Value) -> list[Value]:
    """The codes of a unit's columns, two by two, as 16-bit integers over the sixteen rows."""
    b, offset, shift = e.b, 0, 0
    pairs: list[Any] = [None] * (format.unit // 2)
    for width in PLANES[format.bits]:
        for word in range(format.unit * width // 32):
            bits = e.load(b.add(codes, number(offset)), _PAIRS, 4)
            for place in range(16 // width):
                pair, last = word * (16 // width) + place, (place + 1) * width == 16
                part = b.lshr(bits, constant(_PAIRS, place * width)) if place else bits
                part = part if last else b.and_(part, constant(_PAIRS, (1 << width) - 1))
                part = b.shl(part, constant(_PAIRS, shift)) if shift else part
                pairs[pair] = part if pairs[pair] is None else b.or_(pairs[pair], part)
            offset += 4 * LANES
        shift += width
    return pairs


def scale_of(e: Emitter, format: Format, base: Value, at: Value) -> Value:
    """The scales (or offsets) of group `at`, one for each of the sixteen rows, as float32."""
    if not format.half:
        return e.load(e.at(base, at, 4 * LANES), VF32, 4)
    return e.b.fpext(e.load(e.at(base, at, 2 * LANES), vector(F16), 2), VF32)


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """codes uint8 [N, K], N a multiple of 16 and K of the format's unit, to bytes [N/16, K/unit, 2 · unit · bits].

    Each 32-bit word of a plane of w bits belongs to one row; its two halves hold 16/w columns each, even ones in the low half.
    """
    planes = np.array(PLANES[bits])
    unit = 32 // int(planes[-1])
    packed = np.zeros((len(codes) // LANES, codes.shape[1] // unit, 2 * unit * bits // 4), np.uint32)
    _pack(codes, packed, planes, unit)
    return packed.view(np.uint8)


@njit(nogil=True, cache=True)
def _pack(codes, packed, planes, unit):
    for block in range(packed.shape[0]):
        for index in range(packed.shape[1]):
            for lane in range(LANES):
                shift = at = 0
                for width in planes:
                    per_word, mask = 32 // width, (1 << width) - 1
                    for word in range(unit // per_word):
                        value = 0
                        for i in range(per_word):
                            code = (codes[block * LANES + lane, index * unit + word * per_word + i] >> shift) & mask
                            value |= code << (i % 2 * 16 + i // 2 * width)
                        packed[block, index, (at + word) * LANES + lane] = value
                    shift += width
                    at += unit // per_word
