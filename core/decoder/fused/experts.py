"""Feed-forward blocks split into experts, in the compiled step: each row computes the neurons of some of them.

A product is computed for all rows where any of them has chosen its expert: a few rows cost hardly more than one.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from core.decoder.fused.machine import array_at, call, floats, matrix
from core.decoder.fused.products import meet, product_of_part
from core.decoder.fused.routes import choose, score
from core.decoder.fused.sharing import even_share


@njit(nogil=True)
def feed_experts(m, p, own, layer, index):
    """Activations of the chosen experts of every row into inner [T, F], of which the others are 0."""
    score(m, p, own, layer)
    meet(p, own)
    routes = choose(p, own, layer, index)
    quantized = 0
    for expert in range(layer.experts):
        if routes.begins[expert] < routes.begins[expert + 1]:
            part = layer.gate_up + expert
            quantized = product_of_part(m, p, own, part, own.h, m.width, p.wide, m.wide_width, p.rows, quantized)
    begin, end = even_share(p, own.thread, p.rows)
    matrix(p.inner, p.rows, m.ffn_width)[begin:end] = 0
    meet(p, own)
    begin, end = even_share(p, own.thread, p.rows * layer.used)
    for item in range(begin, end):
        row = item // layer.used
        _activate(m, p, own, layer, row, routes.chosen[row, item % layer.used])


@njit(nogil=True)
def _activate(m, p, own, layer, row, expert):
    """The neurons of one expert in one row, each to its place."""
    neurons = carray(array_at(layer.neurons), (layer.experts, layer.per_expert), np.int64)[expert]
    wide = p.wide + 4 * (row * m.wide_width + 2 * expert * layer.per_expert)
    call(m.gate, (wide, own.room, m.wide_width, layer.per_expert, 0, 1, 0, layer.per_expert))
    activated, inner = floats(own.room, layer.per_expert), matrix(p.inner, p.rows, m.ffn_width)[row]
    for i in range(layer.per_expert):
        inner[neurons[i]] = activated[i]
