"""Products with packed weights, emitted as LLVM vector code and compiled by Numba on the user's machine.

Sixteen output rows are computed side by side, one in each vector lane, so that a packed matrix is read once, in order, and
unpacked into registers for all T rows of the input. Codes of any width from 2 to 8 bits are stored as planes of 1, 2, 4 or
8 bits: eight consecutive input columns of sixteen rows take exactly `bits` × 16 bytes. Every input row goes through the
same sequence of operations whatever T is, so a product of five rows equals five products of one row bit for bit; lossless
speculation rests on that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic

from core.decoder.fused.machine import PRODUCT_ARGUMENTS, array_at, half_to_float, widen

LANES = 16
OCTET = 8  # input columns unpacked together
MOST_ROWS = 8  # input rows of one pass over the matrix
PLANES = {8: (8,), 7: (4, 2, 1), 6: (4, 2), 5: (4, 1), 4: (4,), 3: (2, 1), 2: (2,)}
_ACCUMULATORS = 2  # hides the latency of the fused multiply-add

_i8, _i32, _i64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_f32, _f16 = ir.FloatType(), ir.HalfType()
_v8, _v32 = ir.VectorType(_i8, LANES), ir.VectorType(_i32, LANES)
_vf, _vh = ir.VectorType(_f32, LANES), ir.VectorType(_f16, LANES)


@dataclass(frozen=True)
class Format:
    """How a packed matrix is stored. half: scales (and offsets) are float16, else float32.

    symmetric: a code q means (q − 2^(bits−1)) · scale, and there are no offsets; else q · scale + offset.
    """

    bits: int
    symmetric: bool
    half: bool


_SIGNATURE = types.void(*(types.intp,) * PRODUCT_ARGUMENTS)


@cache
def product(format: Format) -> Any:
    """The compiled product for up to MOST_ROWS input rows: a Numba cfunc, with `.address` and `.ctypes`.

    Called with addresses: codes, scales, offsets, x [rows, groups · octets · 8], sums of x by group [rows, groups],
    y [rows, ldy] float32; then groups, octets a group, ldy, the first and last block of sixteen output rows, and rows.
    """
    one, two, three, four, five, six, seven, eight = (_block(format, rows) for rows in range(1, MOST_ROWS + 1))
    code_bytes, scale_bytes = format.bits * LANES, LANES * (2 if format.half else 4)

    @cfunc(_SIGNATURE)
    def run(codes, scales, offsets, x, sums, y, groups, octets, ldy, first, last, rows):
        for index in range(first, last):
            at = index * groups
            c, s, o = codes + at * octets * code_bytes, scales + at * scale_bytes, offsets + at * scale_bytes
            out = y + index * LANES * 4
            if rows == 1:
                one(c, s, o, x, sums, out, groups, octets, ldy)
            elif rows == 2:
                two(c, s, o, x, sums, out, groups, octets, ldy)
            elif rows == 3:
                three(c, s, o, x, sums, out, groups, octets, ldy)
            elif rows == 4:
                four(c, s, o, x, sums, out, groups, octets, ldy)
            elif rows == 5:
                five(c, s, o, x, sums, out, groups, octets, ldy)
            elif rows == 6:
                six(c, s, o, x, sums, out, groups, octets, ldy)
            elif rows == 7:
                seven(c, s, o, x, sums, out, groups, octets, ldy)
            else:
                eight(c, s, o, x, sums, out, groups, octets, ldy)

    return run


@cache
def dense_product(dtype: torch.dtype) -> Any:
    """The compiled product with a row-major matrix of float32, bfloat16 or float16.

    It is called like a packed one; there is one group, and `octets` stands for the number of input columns.
    """
    stored = np.dtype(np.float32 if dtype == torch.float32 else np.uint16)
    widened = half_to_float if dtype == torch.float16 else widen

    @njit(fastmath={"reassoc", "contract", "nsz"})
    def dot(w, x):
        total = np.float32(0)
        for k in range(len(w)):
            total += widened(w[k]) * x[k]
        return total

    @cfunc(_SIGNATURE)
    def run(codes, scales, offsets, x, sums, y, groups, octets, ldy, first, last, rows):
        weight = carray(array_at(codes), (last * LANES, octets), stored)
        inputs = carray(array_at(x), (rows, octets), np.float32)
        outputs = carray(array_at(y), (rows, ldy), np.float32)
        for n in range(first * LANES, last * LANES):
            for row in range(rows):
                outputs[row, n] = dot(weight[n], inputs[row])

    return run


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """codes uint8 [N, K], N a multiple of 16 and K of 8, to planes [N/16, K/8, bits, 16]."""
    packed = np.empty((len(codes) // LANES, codes.shape[1] // OCTET, bits, LANES), np.uint8)
    _pack(codes, packed, np.array(PLANES[bits]))
    return packed


@njit(nogil=True, cache=True)
def _pack(codes, packed, planes):
    for block in range(packed.shape[0]):
        for octet in range(packed.shape[1]):
            for lane in range(LANES):
                shift = at = 0
                for width in planes:
                    per_byte, mask = 8 // width, (1 << width) - 1
                    for byte in range(width):
                        value = 0
                        for i in range(per_byte):
                            code = codes[block * LANES + lane, octet * OCTET + byte * per_byte + i]
                            value |= ((code >> shift) & mask) << (i * width)
                        packed[block, octet, at + byte, lane] = value
                    shift += width
                    at += width


def _block(format: Format, rows: int) -> Any:
    """An intrinsic for one block of sixteen output rows."""

    @intrinsic
    def block(context, codes, scales, offsets, x, sums, y, groups, octets, ldy):
        def emit(context, builder, _signature, args):
            _Emitter(builder, format, rows, *args).emit()
            return context.get_dummy_value()

        return types.void(*(types.intp,) * 9), emit

    return block


class _Emitter:
    """Writes the two nested loops, over groups of columns that share a scale and over octets within them."""

    def __init__(self, builder: Any, format: Format, rows: int, *args: Any) -> None:
        self.b, self.format, self.rows = builder, format, rows
        self.codes, self.scales, self.offsets, self.x, self.sums, self.y, self.groups, self.octets, self.ldy = args
        name = f"llvm.fma.v{LANES}f32"
        known = builder.module.globals
        self._fma = known.get(name) or ir.Function(builder.module, ir.FunctionType(_vf, [_vf] * 3), name)

    def emit(self) -> None:
        b, entry = self.b, self.b.block
        head, inner, tail, done = (b.function.append_basic_block(name) for name in ("group", "octet", "scale", "done"))
        columns = b.mul(b.mul(self.groups, self.octets), _int(OCTET * 4))  # bytes of a row of x
        b.branch(head)

        b.position_at_end(head)
        group, code, x = (b.phi(_i64) for _ in range(3))
        sums = [b.phi(_vf) for _ in range(self.rows)]
        b.branch(inner)

        b.position_at_end(inner)
        octet, code_in, x_in = (b.phi(_i64) for _ in range(3))
        parts = [[b.phi(_vf) for _ in range(_ACCUMULATORS)] for _ in range(self.rows)]
        new_parts = self._octet(code_in, x_in, columns, parts)
        next_octet = b.add(octet, _int(1))
        next_code, next_x = b.add(code_in, _int(self.format.bits * LANES)), b.add(x_in, _int(OCTET * 4))
        b.cbranch(b.icmp_signed("<", next_octet, self.octets), inner, tail)

        b.position_at_end(tail)
        new_sums = self._scaled(group, sums, new_parts)
        next_group = b.add(group, _int(1))
        b.cbranch(b.icmp_signed("<", next_group, self.groups), head, done)

        zero = ir.Constant(_vf, [0.0] * LANES)
        for phi, first, following in (
            (group, _int(0), next_group),
            (code, self.codes, next_code),
            (x, self.x, next_x),
            *((phi, zero, new) for phi, new in zip(sums, new_sums)),
        ):
            phi.add_incoming(first, entry)
            phi.add_incoming(following, tail)
        for phi, first, following in (
            (octet, _int(0), next_octet),
            (code_in, code, next_code),
            (x_in, x, next_x),
            *((phi, zero, new) for row, new_row in zip(parts, new_parts) for phi, new in zip(row, new_row)),
        ):
            phi.add_incoming(first, head)
            phi.add_incoming(following, inner)

        b.position_at_end(done)
        for row, total in enumerate(new_sums):
            pointer = b.inttoptr(b.add(self.y, b.mul(_int(4 * row), self.ldy)), _vf.as_pointer())
            b.store(total, pointer).align = 4

    def _octet(self, code: Any, x: Any, columns: Any, parts: list[list[Any]]) -> list[list[Any]]:
        """Unpack eight columns and multiply them into the partial sums of every row."""
        parts = [list(row) for row in parts]
        for column, weight in enumerate(self._unpacked(code)):
            for row in range(self.rows):
                address = self.b.add(x, self.b.add(self.b.mul(_int(row), columns), _int(4 * column)))
                value = self._broadcast(self.b.load(self.b.inttoptr(address, _f32.as_pointer())))
                slot = column % _ACCUMULATORS
                parts[row][slot] = self.b.call(self._fma, [weight, value, parts[row][slot]])
        return parts

    def _unpacked(self, code: Any) -> list[Any]:
        """The codes of eight columns as float vectors over the sixteen rows."""
        b, offset, shift = self.b, 0, 0
        columns: list[Any] = [None] * OCTET
        for width in PLANES[self.format.bits]:
            bytes_ = [b.zext(self._load(b.add(code, _int((offset + i) * LANES)), _v8, 1), _v32) for i in range(width)]
            for column in range(OCTET):
                byte, place = divmod(column, OCTET // width)
                bits = b.lshr(bytes_[byte], _splat(place * width)) if place else bytes_[byte]
                bits = bits if (place + 1) * width == 8 else b.and_(bits, _splat((1 << width) - 1))
                bits = b.shl(bits, _splat(shift)) if shift else bits
                columns[column] = bits if columns[column] is None else b.or_(columns[column], bits)
            offset, shift = offset + width, shift + width
        return [b.sitofp(column, _vf) for column in columns]

    def _scaled(self, group: Any, sums: list[Any], parts: list[list[Any]]) -> list[Any]:
        """Add the group's partial sums, scaled and offset, to the totals of every row."""
        b, totals = self.b, []
        scale = self._scale(self.scales, group)
        offset = None if self.format.symmetric else self._scale(self.offsets, group)
        zero = ir.Constant(_vf, [-float(1 << (self.format.bits - 1))] * LANES)
        for row in range(self.rows):
            part = b.fadd(*parts[row])
            index = b.add(b.mul(_int(row), self.groups), group)
            x_sum = self._broadcast(b.load(b.inttoptr(b.add(self.sums, b.mul(_int(4), index)), _f32.as_pointer())))
            if offset is None:
                part = b.call(self._fma, [zero, x_sum, part])
                totals.append(b.call(self._fma, [part, scale, sums[row]]))
            else:
                total = b.call(self._fma, [part, scale, sums[row]])
                totals.append(b.call(self._fma, [offset, x_sum, total]))
        return totals

    def _scale(self, base: Any, group: Any) -> Any:
        size = 2 if self.format.half else 4
        value = self._load(self.b.add(base, self.b.mul(group, _int(LANES * size))), _vh if self.format.half else _vf, size)
        return self.b.fpext(value, _vf) if self.format.half else value

    def _load(self, address: Any, kind: Any, align: int) -> Any:
        loaded = self.b.load(self.b.inttoptr(address, kind.as_pointer()))
        loaded.align = align
        return loaded

    def _broadcast(self, scalar: Any) -> Any:
        undefined = ir.Constant(_vf, ir.Undefined)
        first = self.b.insert_element(undefined, scalar, ir.Constant(_i32, 0))
        return self.b.shuffle_vector(first, undefined, ir.Constant(_v32, [0] * LANES))


def _int(value: int) -> Any:
    return ir.Constant(_i64, value)


def _splat(value: int) -> Any:
    return ir.Constant(_v32, [value] * LANES)
