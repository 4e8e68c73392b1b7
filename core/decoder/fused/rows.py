"""What happens to the many rows of a prompt between its products.

Passes are of bfloat16, held in uint16, or of float32; x, norms and rotations are float32. Types are named, so that everything
is compiled, or read from Numba's cache on disk, when `kernels` is first called.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from core.decoder.fused.machine import narrow, widen
from core.decoder.fused.sources import SOURCES
from core.decoder.fused.vectors import FAST, norm_factor

_FORMATS = ("uint16", "float32")


@njit(nogil=True, fastmath=FAST)
def _move_rows(x, y, after, before, eps, scale, out, first, last):
    """x += scale · norm(y), then out = norm(x), RMS norms with weights `after` and `before`; where those are empty, no norm.

    Where y has no columns, x stays.
    """
    width = x.shape[1]
    for row in range(first, last):
        if y.shape[1]:
            share = scale
            if len(after):
                share *= _factor_of(y[row], eps)
            for i in range(width):
                x[row, i] += widen(y[row, i]) * share * (after[i] if len(after) else np.float32(1))
        factor = norm_factor(x[row], eps) if len(before) else np.float32(1)
        for i in range(width):
            out[row, i] = narrow(x[row, i] * factor * (before[i] if len(before) else np.float32(1)), out[row, i])


@njit(fastmath=FAST)
def _factor_of(y, eps):
    """1 / rms(y) of bfloat16 or float32."""
    total = np.float32(0)
    for i in range(len(y)):
        total += widen(y[i]) * widen(y[i])
    return np.float32(1) / np.sqrt(total / np.float32(len(y)) + eps)


@njit(fastmath=FAST)
def _turned(vector, weight, eps, cos, sin, out):
    """out = vector, normed and rotated, halves paired."""
    half = len(cos)
    if len(weight):
        factor = norm_factor(vector, eps)
        for i in range(len(vector)):
            vector[i] *= factor * weight[i]
    for i in range(half):
        a, b = vector[i], vector[i + half]
        out[i] = narrow(a * cos[i] - b * sin[i], out[i])
        out[i + half] = narrow(b * cos[i] + a * sin[i], out[i])
    for i in range(2 * half, len(vector)):
        out[i] = narrow(vector[i], out[i])


@njit(nogil=True, fastmath=FAST)
def _place_rows(qkv, bias, q_norm, k_norm, eps, cos, sin, queries, keys, values, slot, first, last):
    """Divide qkv [T, (H + 2G) D] into queries [H, T, D] and slots of keys and values [G, capacity, D].

    Queries and keys are biased, normed and rotated by cos and sin [T, half]; what a family lacks is empty.
    """
    heads, kv_heads, size = len(queries), len(keys), queries.shape[2]
    room = np.empty(size, np.float32)
    for row in range(first, last):
        for head in range(heads + 2 * kv_heads):
            for i in range(size):
                room[i] = widen(qkv[row, head * size + i])
            if len(bias):
                for i in range(size):
                    room[i] += bias[head * size + i]
            if head < heads:
                _turned(room, q_norm, eps, cos[row], sin[row], queries[head, row])
            elif head < heads + kv_heads:
                _turned(room, k_norm, eps, cos[row], sin[row], keys[head - heads, slot + row])
            else:
                value = values[head - heads - kv_heads, slot + row]
                for i in range(size):
                    value[i] = narrow(room[i], value[i])


@njit(nogil=True)
def _spread_rows(inner, rows, neurons, out, first, last):
    """out[rows[i], neurons] = inner[i]."""
    for i in range(first, last):
        source, target = inner[i], out[rows[i]]
        for j in range(len(neurons)):
            target[neurons[j]] = source[j]


@njit(nogil=True)
def _take_rows(x, rows, out, first, last):
    """out[i] = x[rows[i]]."""
    for i in range(first, last):
        out[i] = x[rows[i]]


@njit(nogil=True, fastmath=FAST)
def _weigh_rows(given, rows, weights, out, first, last):
    """out[rows[i]] += weights[i] · given[i]."""
    for i in range(first, last):
        source, target, weight = given[i], out[rows[i]], weights[i]
        for j in range(len(target)):
            target[j] += weight * widen(source[j])


class Kernels(NamedTuple):
    """The functions above, for the types named here."""

    move_rows: Any
    place_rows: Any
    spread_rows: Any
    take_rows: Any
    weigh_rows: Any


@cache
def kernels() -> Kernels:
    """Compiled, or read from disk, at the first call."""
    return _compiled(SOURCES)


def _compiled(sources: int) -> Kernels:
    """Kept on disk for these sources, which are below 0."""

    @njit(
        [
            f"(float32[:,::1],{added}[:,::1],float32[::1],float32[::1],float32,float32,{kind}[:,::1],int64,int64)"
            for added, kind in (*zip(_FORMATS, _FORMATS), ("float32", "uint16"))
        ],
        nogil=True, cache=True,
    )  # fmt: skip
    def move_rows(x, y, after, before, eps, scale, out, first, last):
        if sources:
            _move_rows(x, y, after, before, eps, scale, out, first, last)

    @njit(
        [
            f"({kind}[:,::1],float32[::1],float32[::1],float32[::1],float32,float32[:,::1],float32[:,::1],"
            f"{kind}[:,:,::1],{kept}[:,:,::1],{kept}[:,:,::1],int64,int64,int64)"
            for kind, kept in (("uint16", "uint16"), ("float32", "uint16"), ("float32", "float32"))
        ],
        nogil=True, cache=True,
    )  # fmt: skip
    def place_rows(qkv, bias, q_norm, k_norm, eps, cos, sin, queries, keys, values, slot, first, last):
        if sources:
            _place_rows(qkv, bias, q_norm, k_norm, eps, cos, sin, queries, keys, values, slot, first, last)

    @njit(
        [f"({kind}[:,::1],int64[::1],int64[::1],{kind}[:,::1],int64,int64)" for kind in _FORMATS],
        nogil=True, cache=True,
    )  # fmt: skip
    def spread_rows(inner, rows, neurons, out, first, last):
        if sources:
            _spread_rows(inner, rows, neurons, out, first, last)

    @njit(
        [f"({kind}[:,::1],int64[::1],{kind}[:,::1],int64,int64)" for kind in _FORMATS],
        nogil=True, cache=True,
    )  # fmt: skip
    def take_rows(x, rows, out, first, last):
        if sources:
            _take_rows(x, rows, out, first, last)

    @njit(
        [f"({kind}[:,::1],int64[::1],float32[::1],float32[:,::1],int64,int64)" for kind in _FORMATS],
        nogil=True, cache=True,
    )  # fmt: skip
    def weigh_rows(given, rows, weights, out, first, last):
        if sources:
            _weigh_rows(given, rows, weights, out, first, last)

    return Kernels(move_rows, place_rows, spread_rows, take_rows, weigh_rows)
