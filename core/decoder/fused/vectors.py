"""What the compiled step does to short vectors of float32."""

from __future__ import annotations

import numpy as np
from numba import njit

from core.decoder.fused.machine import exp

FAST = {"reassoc", "contract", "nsz", "arcp"}


@njit(nogil=True, fastmath=FAST)
def norm(x, weight, eps, out):
    """RMS norm of one row."""
    total = np.float32(0)
    for i in range(len(x)):
        total += x[i] * x[i]
    factor = np.float32(1) / np.sqrt(total / np.float32(len(x)) + eps)
    for i in range(len(x)):
        out[i] = x[i] * factor * weight[i]


@njit(nogil=True, fastmath=FAST)
def norm_rows(x, present, weight, eps, out):
    """Norm every row where the family has this norm, else copy."""
    for row in range(len(x)):
        if present:
            norm(x[row], weight, eps, out[row])
        else:
            out[row] = x[row]


@njit(nogil=True, fastmath=FAST)
def add_rows(x, y, present, weight, eps, scale, room):
    """x += scale · norm(y), row by row."""
    for row in range(len(x)):
        source = y[row]
        if present:
            norm(y[row], weight, eps, room)
            source = room
        for i in range(x.shape[1]):
            x[row, i] += source[i] * scale


@njit(nogil=True, fastmath=FAST)
def rotate(vector, cos, sin):
    """Rotary position embedding of one head, halves paired."""
    half = len(cos)
    for i in range(half):
        a, b = vector[i], vector[i + half]
        vector[i] = a * cos[i] - b * sin[i]
        vector[i + half] = b * cos[i] + a * sin[i]


@njit(nogil=True, fastmath=FAST)
def gate_rows(wide, inner, gelu, thread, threads):
    """inner = act(gate) · up for this thread's neurons; `wide` holds gate then up."""
    width = inner.shape[1]
    begin, end = width * thread // threads, width * (thread + 1) // threads
    for row in range(len(inner)):
        for i in range(begin, end):
            g = wide[row, i]
            # gelu's tanh form is x · σ(2·0.79788456·(x + 0.044715 x³)).
            z = np.float32(1.5957691216) * (g + np.float32(0.044715) * g * g * g) if gelu else g
            inner[row, i] = g / (np.float32(1) + exp(-z)) * wide[row, width + i]


@njit(nogil=True, fastmath=FAST)
def highest_of(scores, begin, end, scale, cap):
    """Scale (and cap) scores begin … end − 1 in place; returns the highest."""
    highest = np.float32(-3.0e38)
    for i in range(begin, end):
        scores[i] *= scale
    if cap != 0:
        for i in range(begin, end):
            scores[i] = np.tanh(scores[i] / cap) * cap
    for i in range(begin, end):
        highest = max(highest, scores[i])
    return highest


@njit(nogil=True, fastmath=FAST)
def exponentials(scores, begin, end, highest):
    """Each score to e^(score − highest); returns their sum."""
    total = np.float32(0)
    for i in range(begin, end):
        scores[i] = exp(scores[i] - highest)
        total += scores[i]
    return total
