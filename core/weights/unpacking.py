"""Packed matrices as dense ones, for the products of many rows."""

from __future__ import annotations

import threading
from functools import cache

import numpy as np
import torch

from core.compiled.crew import crew
from core.compiled.emitter import LANES, VF32, VI32, Emitter, Value, constant, number
from core.compiled.jit import callable_at
from core.compiled.numbers import write
from core.weights.kernel import Format, scale_of, unpacked_pairs

_ARGUMENTS = 9


def unpacked(
    form: Format, codes: np.ndarray, scales: np.ndarray, offsets: np.ndarray | None, groups: int, width: int,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:  # fmt: skip
    """The matrix transposed, [groups · width, N] float32 or bfloat16, N padded to whole blocks.

    Bfloat16 stands in memory that the next call overwrites: fresh memory for every product would cost as much as unpacking.
    """
    values = _room(groups * width, len(codes) * LANES, dtype)
    run, workers, blocks = callable_at(unpacker(form, dtype), _ARGUMENTS), crew(torch.get_num_threads()), len(codes)
    addresses = codes.ctypes.data, scales.ctypes.data, 0 if offsets is None else offsets.ctypes.data, values.data_ptr()
    shape = groups, width // form.unit, values.shape[1]
    shares = [blocks * thread // workers.threads for thread in range(workers.threads + 1)]
    workers.run(lambda thread: run(*addresses, *shape, shares[thread], shares[thread + 1]))
    return values


_rooms = threading.local()


def _room(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    if dtype == torch.float32:
        return torch.empty(rows, columns)
    room: torch.Tensor = getattr(_rooms, "flat", torch.empty(0, dtype=dtype))
    if room.numel() < rows * columns:
        room = _rooms.flat = torch.empty(rows * columns, dtype=dtype)
    return room[: rows * columns].view(rows, columns)


@cache
def unpacker(form: Format, dtype: torch.dtype) -> int:
    """The address of the compiled unpacking.

    Called with addresses: codes, scales, offsets, values [groups · units · unit, N]; then groups, units a group, N, and the
    first and last block of sixteen of the N columns.
    """
    name = f"unpack_{form.bits}_{form.symmetric:d}_{form.half:d}_{dtype.itemsize}"
    e = Emitter(name, "codes scales offsets values groups units n first last")
    unit_bytes = 2 * form.unit * form.bits
    row_bytes = e.b.mul(e.n, number(dtype.itemsize))

    def block(index: Value, _: list[Value]) -> list[Value]:
        group0 = e.b.mul(index, e.groups)
        codes = e.at(e.codes, e.b.mul(group0, e.units), unit_bytes)
        values = e.at(e.values, index, LANES * dtype.itemsize)
        e.loop(number(0), e.groups, [codes, values], lambda g, carried: group(e.b.add(group0, g), carried))
        return []

    def group(at: Value, carried: list[Value]) -> list[Value]:
        scale = scale_of(e, form, e.scales, at)
        zero = constant(VF32, -float(1 << (form.bits - 1)))
        offset = e.b.fmul(scale, zero) if form.symmetric else scale_of(e, form, e.offsets, at)

        def unit(_: Value, inner: list[Value]) -> list[Value]:
            codes, values = inner
            for pair in unpacked_pairs(e, form, codes):
                for column in _columns(e, pair):
                    write(e, e.fma(column, scale, offset), values, dtype)
                    values = e.b.add(values, row_bytes)
            return [e.b.add(codes, number(unit_bytes)), values]

        return e.loop(number(0), e.units, carried, unit)

    e.loop(e.first, e.last, [], block)
    return e.finish()


def _columns(e: Emitter, pair: Value) -> list[Value]:
    """The two neighbouring columns in the halves of sixteen words, as float32."""
    words = e.b.bitcast(pair, VI32)
    halves = e.b.and_(words, constant(VI32, 0xFFFF)), e.b.lshr(words, constant(VI32, 16))
    return [e.b.sitofp(half, VF32) for half in halves]
