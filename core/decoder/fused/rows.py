"""What happens to the many rows of a prompt between its products.

Passes are of bfloat16, held in uint16, or of float32; x, norms and rotations are float32. Types are named, so that everything
is compiled, or read from Numba's cache on disk, when this module is imported. That cache looks at the age of this file
alone: touch it when machine.py or vectors.py changes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from core.decoder.fused.machine import narrow, widen
from core.decoder.fused.vectors import FAST, norm_factor

_FORMATS = ("uint16", "float32")


@njit([f"(float32[:,::1],float32[::1],float32,{kind}[:,::1])" for kind in _FORMATS], nogil=True, fastmath=FAST, cache=True)
def norm_rows(x, weight, eps, out):
    """out = RMS norm of every row of x; where `weight` is empty, x itself."""
    for row in range(len(x)):
        if len(weight) == 0:
            for i in range(x.shape[1]):
                out[row, i] = narrow(x[row, i], out[row, i])
            continue
        factor = norm_factor(x[row], eps)
        for i in range(x.shape[1]):
            out[row, i] = narrow(x[row, i] * factor * weight[i], out[row, i])


@njit(
    [f"(float32[:,::1],{kind}[:,::1],float32[::1],float32,float32)" for kind in _FORMATS], nogil=True, fastmath=FAST, cache=True
)
def add_rows(x, y, weight, eps, scale):
    """x += scale · RMS norm of y; where `weight` is empty, y itself."""
    width = x.shape[1]
    room = np.empty(width, np.float32)
    for row in range(len(x)):
        if len(weight) == 0:
            for i in range(width):
                x[row, i] += widen(y[row, i]) * scale
            continue
        for i in range(width):
            room[i] = widen(y[row, i])
        factor = norm_factor(room, eps) * scale
        for i in range(width):
            x[row, i] += room[i] * factor * weight[i]


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


@njit(
    [
        f"({kind}[:,::1],float32[::1],float32[::1],float32[::1],float32,float32[:,::1],float32[:,::1],"
        f"{kind}[:,:,::1],{kept}[:,:,::1],{kept}[:,:,::1],int64,int64,int64)"
        for kind, kept in (("uint16", "uint16"), ("float32", "uint16"), ("float32", "float32"))
    ],
    nogil=True, fastmath=FAST, cache=True,
)  # fmt: skip
def place_rows(qkv, bias, q_norm, k_norm, eps, cos, sin, queries, keys, values, slot, first, last):
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
