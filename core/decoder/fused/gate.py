"""The activation of a gated feed-forward block, for the compiled step and for prompts."""

from __future__ import annotations

from functools import cache

import torch

from core.compiled.arithmetic import gated
from core.compiled.emitter import Emitter, Value
from core.compiled.numbers import read, write

GATE_ARGUMENTS = 8


@cache
def gate_kernel(gelu: bool, dtype: torch.dtype) -> int:
    """The address of the compiled inner = act(gate) · up, of float32 or bfloat16.

    Called with: addresses of wide [T, pitch], which holds gate and then up, and of inner [T, F]; pitch and F; the first and
    last row, the first and last column. act is SiLU or GELU, see core/compiled/arithmetic.py.
    """
    e = Emitter(f"gate_{gelu:d}_{dtype.itemsize}", "wide inner pitch width begin end first last")

    def columns(row: Value, i: Value, lanes: int) -> list[Value]:
        place = e.b.add(e.b.mul(row, e.pitch), i)
        gate = read(e, e.at(e.wide, place, dtype.itemsize), dtype, lanes)
        up = read(e, e.at(e.wide, e.b.add(place, e.width), dtype.itemsize), dtype, lanes)
        inner = e.at(e.inner, e.b.add(e.b.mul(row, e.width), i), dtype.itemsize)
        write(e, gated(e, gate, up, gelu), inner, dtype)
        return []

    e.loop(e.begin, e.end, [], lambda row, _: e.sweep(e.first, e.last, [], lambda i, _, lanes: columns(row, i, lanes)))
    return e.finish()
