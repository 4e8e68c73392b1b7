"""Stored numbers of any float type as float32, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from core.compiled.emitter import F16, F32, I16, I32, Emitter, Value, constant, lanes_of, vector

UPPER = 0xFFFF0000  # of a word, the bits that a number of bfloat16 has as float32


def read(e: Emitter, address: Value, dtype: torch.dtype, lanes: int = 1) -> Value:
    """The float32 number at `address`, or a vector of `lanes` of them, stored as float32, float16 or bfloat16."""
    if dtype == torch.float32:
        return e.load(address, of_lanes(F32, lanes), 4)
    if dtype == torch.float16:
        return e.b.fpext(e.load(address, of_lanes(F16, lanes), 2), of_lanes(F32, lanes))
    bits = e.b.zext(e.load(address, of_lanes(I16, lanes), 2), of_lanes(I32, lanes))
    return e.b.bitcast(e.b.shl(bits, constant(bits.type, 16)), of_lanes(F32, lanes))


def read_two(e: Emitter, address: Value, dtype: torch.dtype, lanes: int) -> tuple[Value, Value]:
    """The next 2 · `lanes` numbers as two vectors: those of even and odd places of bfloat16, where this takes half the
    instructions, else the first and the second half."""
    if dtype != torch.bfloat16:
        return read(e, address, dtype, lanes), read(e, e.at(address, lanes, dtype.itemsize), dtype, lanes)
    words, kind = e.load(address, vector(I32, lanes), 2), vector(F32, lanes)
    even, odd = e.b.shl(words, constant(words.type, 16)), e.b.and_(words, constant(words.type, UPPER))
    return e.b.bitcast(even, kind), e.b.bitcast(odd, kind)


def split_like(e: Emitter, address: Value, dtype: torch.dtype, lanes: int) -> tuple[Value, Value]:
    """2 · `lanes` float32 numbers as two vectors, in the order in which `read_two` gives numbers of `dtype`."""
    first, second = read_two(e, address, torch.float32, lanes)
    if dtype != torch.bfloat16:
        return first, second
    even, odd = (e.picked(first, second, range(start, 2 * lanes, 2)) for start in (0, 1))
    return even, odd


def store_two(e: Emitter, two: Sequence[Value], address: Value, dtype: torch.dtype) -> None:
    """Store two vectors in the order of `read_two` of `dtype` as float32 numbers."""
    first, second = two
    lanes = lanes_of(first)
    if dtype == torch.bfloat16:
        order = [place + half * lanes for place in range(lanes) for half in (0, 1)]
        first, second = (e.picked(first, second, half) for half in (order[:lanes], order[lanes:]))
    e.store(first, address)
    e.store(second, e.at(address, lanes, 4))


def write(e: Emitter, value: Value, address: Value, dtype: torch.dtype) -> None:
    """Store float32 numbers as float32, or as bfloat16, rounded to nearest, ties to even."""
    if dtype == torch.float32:
        e.store(value, address)
        return
    bits = rounded(e, value)
    e.store(e.b.trunc(e.b.lshr(bits, constant(bits.type, 16)), of_lanes(I16, lanes_of(value))), address, 2)


def rounded(e: Emitter, value: Value) -> Value:
    """The bits of float32 numbers, with those of the nearest bfloat16, ties to even, in the upper half."""
    bits = e.b.bitcast(value, of_lanes(I32, lanes_of(value)))
    odd = e.b.and_(e.b.lshr(bits, constant(bits.type, 16)), constant(bits.type, 1))
    return e.b.add(e.b.add(bits, constant(bits.type, 0x7FFF)), odd)


def of_lanes(kind: Any, lanes: int) -> Any:
    """The scalar type `kind`, or a vector of it."""
    return vector(kind, lanes) if lanes > 1 else kind
