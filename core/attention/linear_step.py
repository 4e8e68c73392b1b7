"""One row of linear attention, compiled: a step of decoding is too small for torch's calls."""

from __future__ import annotations

from math import exp, tanh

import numpy as np
from numba import njit

_UNSEEN = np.float32(-1e30)


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"})
def enter(logs, values, peaks, mass, sums):  # type: ignore[no-untyped-def]
    """Let one key, log φ [G, M], with its values [G, D] into peaks and mass [G, M] and sums [G, M, D], in place."""
    for g in range(peaks.shape[0]):
        for m in range(peaks.shape[1]):
            peak = max(peaks[g, m], logs[g, m])
            before, feature = exp(peaks[g, m] - peak), exp(logs[g, m] - peak)
            peaks[g, m] = peak
            mass[g, m] = mass[g, m] * before + feature
            for d in range(values.shape[1]):
                sums[g, m, d] = sums[g, m, d] * before + feature * values[g, d]


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"})
def attend_row(queries, logs, keys, values, positions, first, sinks, cap, peaks, mass, sums, out):  # type: ignore[no-untyped-def]
    """Attention out [G, J, D] of scaled queries [G, J, D] with log φ [G, J, M].

    By softmax over those of keys and values [G, S, D] whose `positions` [S] are from `first` on or among the sinks, and by
    features over a state: peaks and mass [G, M], sums [G, M, D]. cap: of scores; 0 for none.
    """
    weights, near = np.empty(keys.shape[1], np.float32), np.empty(keys.shape[1], np.bool_)
    for s in range(keys.shape[1]):
        near[s] = positions[s] >= first or 0 <= positions[s] < sinks
    for g in range(queries.shape[0]):
        for j in range(queries.shape[1]):
            highest = _UNSEEN
            for m in range(peaks.shape[1]):
                highest = max(highest, logs[g, j, m] + peaks[g, m])
            for s in range(keys.shape[1]):
                if near[s]:
                    score = np.float32(0)
                    for d in range(keys.shape[2]):
                        score += queries[g, j, d] * keys[g, s, d]
                    weights[s] = cap * tanh(score / cap) if cap else score
                    highest = max(highest, weights[s])
            total = np.float32(0)
            out[g, j] = 0
            for s in range(keys.shape[1]):
                if near[s]:
                    weight = np.float32(exp(weights[s] - highest))
                    total += weight
                    for d in range(keys.shape[2]):
                        out[g, j, d] += weight * values[g, s, d]
            for m in range(peaks.shape[1]):
                weight = np.float32(exp(logs[g, j, m] + peaks[g, m] - highest))
                total += weight * mass[g, m]
                for d in range(keys.shape[2]):
                    out[g, j, d] += weight * sums[g, m, d]
            out[g, j] /= total
