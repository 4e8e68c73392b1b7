"""What the compiled step does to short vectors of float32."""

from __future__ import annotations

import numpy as np
from numba import njit

FAST = {"reassoc", "contract", "nsz", "arcp"}


@njit(nogil=True, fastmath=FAST)
def norm_factor(x, eps):
    """1 / rms(x)."""
    total = np.float32(0)
    for i in range(len(x)):
        total += x[i] * x[i]
    return np.float32(1) / np.sqrt(total / np.float32(len(x)) + eps)


@njit(nogil=True, fastmath=FAST)
def norm(x, weight, eps, out):
    """RMS norm of one row."""
    factor = norm_factor(x, eps)
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
