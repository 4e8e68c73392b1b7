"""Stored numbers of any float type as float32, and back."""

from __future__ import annotations

from typing import Any

import torch
from llvmlite import ir

from core.compiled.emitter import F16, F32, I16, I32, Emitter, Value, constant, vector


def read(e: Emitter, address: Value, dtype: torch.dtype, lanes: int = 1) -> Value:
    """The float32 number at `address`, or a vector of `lanes` of them, stored as float32, float16 or bfloat16."""
    if dtype == torch.float32:
        return e.load(address, _of(F32, lanes), 4)
    if dtype == torch.float16:
        return e.b.fpext(e.load(address, _of(F16, lanes), 2), _of(F32, lanes))
    bits = e.b.zext(e.load(address, _of(I16, lanes), 2), _of(I32, lanes))
    return e.b.bitcast(e.b.shl(bits, constant(bits.type, 16)), _of(F32, lanes))


def write(e: Emitter, value: Value, address: Value, dtype: torch.dtype) -> None:
    """Store float32 numbers as float32, or as bfloat16, rounded to nearest, ties to even."""
    if dtype == torch.float32:
        e.store(value, address)
        return
    bits = rounded(e, value)
    lanes = value.type.count if isinstance(value.type, ir.VectorType) else 1
    e.store(e.b.trunc(e.b.lshr(bits, constant(bits.type, 16)), _of(I16, lanes)), address, 2)


def rounded(e: Emitter, value: Value) -> Value:
    """The bits of float32 numbers, with those of the nearest bfloat16, ties to even, in the upper half."""
    bits = e.b.bitcast(value, _of(I32, value.type.count if isinstance(value.type, ir.VectorType) else 1))
    odd = e.b.and_(e.b.lshr(bits, constant(bits.type, 16)), constant(bits.type, 1))
    return e.b.add(e.b.add(bits, constant(bits.type, 0x7FFF)), odd)


def _of(kind: Any, lanes: int) -> Any:
    return vector(kind, lanes) if lanes > 1 else kind
