"""Trained mixtures of experts, in the compiled step: products of the experts that any row takes, for those rows alone.

Rows are gathered by expert, one line for every expert that a row takes, and what comes out is added in the order of a row's own
choices; so a row comes out the same whatever rows are computed with it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from core.decoder.fused.machine import call, matrix
from core.decoder.fused.products import meet, product_of_part
from core.decoder.fused.routes import choose, member_count, score
from core.decoder.fused.sharing import even_share
from core.decoder.fused.vectors import FAST


class Lines(NamedTuple):
    """The lines of one expert: the first, how many rows have one, and its neurons; inner, wide: addresses of the first."""

    first: int
    rows: int
    width: int
    inner: int
    wide: int


@njit(nogil=True)
def feed_mixture(m, p, own, layer, index):
    """What the experts of every row give it, weighted, into output [T, C]."""
    score(m, p, own, layer)
    meet(p, own)
    routes = choose(p, own, layer, index)
    shares = _shares(m, p, own, layer, index, routes)
    _widen(m, p, own, layer, routes)
    meet(p, own)
    _activate(m, p, own, layer, routes)
    meet(p, own)
    _narrow(m, p, own, layer, routes)
    meet(p, own)
    _add_up(m, p, own, layer, routes, shares)


@njit(nogil=True)
def _lines(p, layer, routes, member):
    """Lines of the shared expert come last."""
    if member < layer.experts:
        first, width = routes.begins[member], layer.per_expert
        rows = routes.begins[member + 1] - first
    else:
        first, rows, width = p.rows * layer.used, p.rows, layer.per_shared
    at = 4 * first * layer.per_expert
    return Lines(first, rows, width, p.inner + at, p.wide + 2 * at)


@njit(nogil=True)
def _widen(m, p, own, layer, routes):
    """A share of the products with gate and up. An expert of all rows takes them where they are, quantized once."""
    quantized = 0
    for member in range(member_count(layer)):
        lines = _lines(p, layer, routes, member)
        part, wide = layer.gate_up + member, 2 * lines.width
        if lines.rows == p.rows:
            quantized = product_of_part(m, p, own, part, own.h, m.width, lines.wide, wide, p.rows, quantized)
        elif lines.rows:
            _take(m, p, own, routes.rows[lines.first : lines.first + lines.rows])
            product_of_part(m, p, own, part, own.taken, m.width, lines.wide, wide, lines.rows, 0)
            quantized = 0


@njit(nogil=True)
def _take(m, p, own, rows):
    """These rows of h, one after the other, for this thread alone."""
    h, taken = matrix(own.h, p.rows, m.width), matrix(own.taken, p.rows, m.width)
    for line in range(len(rows)):
        taken[line] = h[rows[line]]


@njit(nogil=True)
def _activate(m, p, own, layer, routes):
    """A share of the neurons of every expert, in all its lines."""
    for member in range(member_count(layer)):
        lines = _lines(p, layer, routes, member)
        begin, end = even_share(p, own.thread, lines.width)
        call(m.gate, (lines.wide, lines.inner, 2 * lines.width, lines.width, 0, lines.rows, begin, end))


@njit(nogil=True)
def _narrow(m, p, own, layer, routes):
    """A share of the products with down."""
    for member in range(member_count(layer)):
        lines = _lines(p, layer, routes, member)
        if lines.rows:
            part, target = layer.down + member, p.added + 4 * lines.first * m.output_width
            product_of_part(m, p, own, part, lines.inner, lines.width, target, m.output_width, lines.rows, 0)


@njit(nogil=True, fastmath=FAST)
def _shares(m, p, own, layer, index, routes):
    """The weight of each expert of every row [T, K], and after them that of the shared one."""
    members, shared = member_count(layer), member_count(layer) - layer.experts
    address = p.shares + 4 * p.rows * m.most_lines * (index * p.threads + own.thread)
    scores, shares = matrix(p.routes, p.rows, members), matrix(address, p.rows, layer.used + shared)
    for row in range(p.rows):
        chosen, total, peak = routes.chosen[row], np.float32(0), scores[row, routes.chosen[row, 0]]
        for place in range(layer.used):
            shares[row, place] = np.exp(scores[row, chosen[place]] - peak)
            total += shares[row, place]
        if not layer.normalises:
            total = _total(scores[row, : layer.experts], peak)
        for place in range(layer.used):
            shares[row, place] /= total
        if shared:
            shares[row, layer.used] = np.float32(1) / (np.float32(1) + np.exp(-scores[row, layer.experts]))
    return shares


@njit(nogil=True, fastmath=FAST)
def _total(scores, peak):
    """What a softmax divides by."""
    total = np.float32(0)
    for expert in range(len(scores)):
        total += np.exp(scores[expert] - peak)
    return total


@njit(nogil=True, fastmath=FAST)
def _add_up(m, p, own, layer, routes, shares):
    """A share of the columns of output: what the lines of each row give, weighted."""
    begin, end = even_share(p, own.thread, m.width)
    added, output = matrix(p.added, p.rows * shares.shape[1], m.output_width), matrix(p.output, p.rows, m.output_width)
    for row in range(p.rows):
        target = output[row, begin:end]
        target[:] = 0
        for place in range(shares.shape[1]):
            line = routes.lines[row, place] if place < layer.used else p.rows * layer.used + row
            source, share = added[line, begin:end], shares[row, place]
            for i in range(end - begin):
                target[i] += share * source[i]
