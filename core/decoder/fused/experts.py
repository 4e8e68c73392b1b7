"""Feed-forward blocks split into experts, in the compiled step: each row computes the neurons of some of them.

A product is computed for all rows where any of them has chosen its expert: a few rows cost hardly more than one.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from core.decoder.fused.machine import array_at, call, floats, matrix
from core.decoder.fused.products import meet, product_of_part
from core.decoder.fused.vectors import FAST


@njit(nogil=True)
def feed_experts(m, p, own, layer, index):
    """Activations of the chosen experts of every row into inner [T, F], of which the others are 0."""
    _route(m, p, own, layer)
    meet(p, own)
    chosen, needed = _choose(m, p, own, layer, index)
    quantized = 0
    for expert in range(layer.experts):
        if needed[expert]:
            part = layer.gate_up + expert
            quantized = product_of_part(m, p, own, part, own.h, m.width, p.wide, m.wide_width, p.rows, quantized)
    begin, end = p.rows * own.thread // p.threads, p.rows * (own.thread + 1) // p.threads
    matrix(p.inner, p.rows, m.ffn_width)[begin:end] = 0
    meet(p, own)
    count = p.rows * layer.used
    for item in range(count * own.thread // p.threads, count * (own.thread + 1) // p.threads):
        row = item // layer.used
        _activate(m, p, own, layer, row, chosen[row, item % layer.used])


@njit(nogil=True, fastmath=FAST)
def _route(m, p, own, layer):
    """A share of the experts' scores [T, E]."""
    scores, h = matrix(p.routes, p.rows, layer.experts), matrix(own.h, p.rows, m.width)
    router, bias = matrix(layer.router, layer.experts, m.width), floats(layer.router_bias, layer.experts)
    for expert in range(layer.experts * own.thread // p.threads, layer.experts * (own.thread + 1) // p.threads):
        for row in range(p.rows):
            total = bias[expert]
            for i in range(m.width):
                total += router[expert, i] * h[row, i]
            scores[row, expert] = total


@njit(nogil=True)
def _choose(m, p, own, layer, index):
    """The experts of each row, highest score first, and which of all any row needs: for this thread alone."""
    size = p.rows * m.most_used + m.most_experts
    room = carray(array_at(p.chosen + 8 * size * (index * p.threads + own.thread)), size, np.int64)
    chosen, needed = room[: p.rows * layer.used].reshape(p.rows, layer.used), room[p.rows * m.most_used :]
    scores = matrix(p.routes, p.rows, layer.experts)
    needed[:] = 0
    for row in range(p.rows):
        chosen[row] = np.argsort(-scores[row], kind="mergesort")[: layer.used]
        for expert in chosen[row]:
            needed[expert] = 1
    return chosen, needed


@njit(nogil=True)
def _activate(m, p, own, layer, row, expert):
    """The neurons of one expert in one row, each to its place."""
    neurons = carray(array_at(layer.neurons), (layer.experts, layer.per_expert), np.int64)[expert]
    wide = p.wide + 4 * (row * m.wide_width + 2 * expert * layer.per_expert)
    call(m.gate, (wide, own.room, m.wide_width, layer.per_expert, 0, 1, 0, layer.per_expert))
    activated, inner = floats(own.room, layer.per_expert), matrix(p.inner, p.rows, m.ffn_width)[row]
    for i in range(layer.per_expert):
        inner[neurons[i]] = activated[i]
