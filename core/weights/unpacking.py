"""Packed matrices as dense ones, for the products of many rows."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from core.compiled.crew import crew
from core.compiled.emitter import LANES, VF32, VI32, Emitter, Value, constant, number
from core.compiled.jit import callable_at
from core.compiled.numbers import UPPER, rounded
from core.compiled.room import Room
from core.weights.kernel import Format, scale_of, unpacked_pairs

UNPACKER_ARGUMENTS = 9
_passing = Room()


def unpacked(
    form: Format, codes: np.ndarray, scales: np.ndarray, offsets: np.ndarray | None, groups: int, width: int,
    dtype: torch.dtype = torch.float32, passing: bool = False,
) -> torch.Tensor:  # fmt: skip
    """The matrix [N, groups · width] float32 or bfloat16, N padded to whole blocks.

    passing: in memory that the next such call overwrites: fresh memory for every product would cost as much as unpacking.
    """
    size = len(codes) * LANES, groups * width
    if passing:
        values = torch.from_numpy(_passing.bytes(size[0] * size[1] * dtype.itemsize)).view(dtype).view(size)
    else:
        values = torch.empty(size, dtype=dtype)
    run = callable_at(unpacker(form, dtype), UNPACKER_ARGUMENTS)
    addresses = codes.ctypes.data, scales.ctypes.data, 0 if offsets is None else offsets.ctypes.data, values.data_ptr()
    shape = groups, width // form.unit, values.shape[1] * dtype.itemsize
    crew(torch.get_num_threads()).share(len(codes), lambda first, last: run(*addresses, *shape, first, last))
    return values


@cache
def unpacker(form: Format, dtype: torch.dtype) -> int:
    """The address of the compiled unpacking.

    Called with addresses: codes, scales, offsets, values [N, groups · units · unit]; then groups, units a group, the bytes of
    a row of values, and the first and last block of sixteen rows.
    """
    name = f"unpack_{form.bits}_{form.symmetric:d}_{form.half:d}_{dtype.itemsize}"
    e = Emitter(name, "codes scales offsets values groups units row_bytes first last")
    unit_bytes = 2 * form.unit * form.bits

    def block(index: Value, _: list[Value]) -> list[Value]:
        group0 = e.b.mul(index, e.groups)
        codes = e.at(e.codes, e.b.mul(group0, e.units), unit_bytes)
        values = e.b.add(e.values, e.b.mul(e.b.mul(index, number(LANES)), e.row_bytes))
        e.loop(number(0), e.groups, [codes, values], lambda g, carried: group(e.b.add(group0, g), carried))
        return []

    def group(at: Value, carried: list[Value]) -> list[Value]:
        scale, offset = scales_of(e, form, at)

        def unit(_: Value, inner: list[Value]) -> list[Value]:
            codes, values = inner
            pairs = unpacked_columns(e, form, codes, scale, offset)
            words = _rounded(e, pairs) if dtype == torch.bfloat16 else [e.b.bitcast(x, VI32) for pair in pairs for x in pair]
            for first in range(0, len(words), 4):
                _store_rows(e, words[first : first + 4], e.b.add(values, number(4 * first)))
            return [e.b.add(codes, number(unit_bytes)), e.b.add(values, number(dtype.itemsize * form.unit))]

        return e.loop(number(0), e.units, carried, unit)

    e.loop(e.first, e.last, [], block)
    return e.finish()


def scales_of(e: Emitter, form: Format, at: Value) -> tuple[Value, Value]:
    """The scales of group `at` and what code 0 stands for, of sixteen rows."""
    scale = scale_of(e, form, e.scales, at)
    zero = constant(VF32, -float(1 << (form.bits - 1)))
    return scale, e.b.fmul(scale, zero) if form.symmetric else scale_of(e, form, e.offsets, at)


def unpacked_columns(e: Emitter, form: Format, codes: Value, scale: Value, offset: Value) -> list[tuple[Value, Value]]:
    """The values of a unit's columns, two by two, over sixteen rows."""
    return [_pair(e, pair, scale, offset) for pair in unpacked_pairs(e, form, codes)]


def _pair(e: Emitter, pair: Value, scale: Value, offset: Value) -> tuple[Value, Value]:
    """The values of the two neighbouring columns in the halves of sixteen words."""
    words = e.b.bitcast(pair, VI32)
    low, high = e.b.and_(words, constant(VI32, 0xFFFF)), e.b.lshr(words, constant(VI32, 16))
    return e.fma(e.b.sitofp(low, VF32), scale, offset), e.fma(e.b.sitofp(high, VF32), scale, offset)


def _rounded(e: Emitter, pairs: list[tuple[Value, Value]]) -> list[Value]:
    """Each two columns as bfloat16 in the halves of sixteen words."""
    words = []
    for pair in pairs:
        low, high = (rounded(e, values) for values in pair)
        words.append(e.b.or_(e.b.lshr(low, constant(VI32, 16)), e.b.and_(high, constant(VI32, UPPER))))
    return words


def _store_rows(e: Emitter, words: list[Value], address: Value) -> None:
    """Words [two or four][16] become sixteen rows of as many words: neighbours are interleaved, then pairs of them."""
    low, high = _interleaved(e, words[0], words[1], 1)
    rows = [low, high]
    if len(words) == 4:
        others = _interleaved(e, words[2], words[3], 1)
        rows = [*_interleaved(e, low, others[0], 2), *_interleaved(e, high, others[1], 2)]
    width = len(words)
    for part, values in enumerate(rows):
        for run in range(LANES // width):  # runs of four words hold rows 4k, 4k + 1, …, in as many parts
            quarter, place = divmod(run * width, 4)
            row = 4 * quarter + part * (4 // len(rows)) + place // width
            target = e.b.add(address, e.b.mul(number(row), e.row_bytes))
            e.store(e.part(values, run * width, width), target, 2)


def _interleaved(e: Emitter, a: Value, b: Value, run: int) -> tuple[Value, Value]:
    """Of every four words of a and b: runs of `run` words in turns, from their first halves and from their second ones."""
    places = (0, LANES, 1, LANES + 1) if run == 1 else (0, 1, LANES, LANES + 1)
    halves = ([4 * k + half + place for k in range(LANES // 4) for place in places] for half in (0, 2))
    first, second = (e.picked(a, b, lanes) for lanes in halves)
    return first, second
