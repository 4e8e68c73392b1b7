"""Which experts the rows of a pass take, in the compiled step.

Scores are divided among threads, and every thread chooses by them for itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import carray, njit

from core.decoder.fused.machine import array_at, floats, matrix
from core.decoder.fused.sharing import even_share
from core.decoder.fused.vectors import FAST


class Routes(NamedTuple):
    """What each row has chosen, and that in order of experts: a line for every row and expert that it takes.

    chosen [T, K]: experts, highest score first. lines [T, K]: the line of each. rows [T · K]: of each line. begins [E + 1]: the
    first line of each expert.
    """

    chosen: np.ndarray
    lines: np.ndarray
    rows: np.ndarray
    begins: np.ndarray


def routes_size(rows: int, used: int, experts: int) -> int:
    """Integers that `Routes` hold."""
    return 3 * rows * used + experts + 1


@njit(nogil=True)
def member_count(layer):
    """Experts, with the shared one."""
    return layer.experts + (1 if layer.per_shared else 0)


@njit(nogil=True, fastmath=FAST)
def score(m, p, own, layer):
    """A share of the scores [T, E] of experts, and of the shared one after them."""
    count = member_count(layer)
    scores, h = matrix(p.routes, p.rows, count), matrix(own.h, p.rows, m.width)
    router, bias = matrix(layer.router, count, m.width), floats(layer.router_bias, count)
    begin, end = even_share(p, own.thread, count)
    for expert in range(begin, end):
        for row in range(p.rows):
            total = bias[expert]
            for i in range(m.width):
                total += router[expert, i] * h[row, i]
            scores[row, expert] = total


@njit(nogil=True)
def choose(p, own, layer, index):
    """The experts of each row, for this thread alone."""
    count = p.rows * layer.used
    room = carray(array_at(p.chosen + 8 * p.chosen_size * (index * p.threads + own.thread)), p.chosen_size, np.int64)
    chosen = room[:count].reshape(p.rows, layer.used)
    lines = room[count : 2 * count].reshape(p.rows, layer.used)
    routes = Routes(chosen, lines, room[2 * count : 3 * count], room[3 * count : 3 * count + layer.experts + 1])
    scores = matrix(p.routes, p.rows, member_count(layer))
    for row in range(p.rows):
        chosen[row] = np.argsort(-scores[row, : layer.experts], kind="mergesort")[: layer.used]
    _line_up(routes)
    return routes


@njit(nogil=True)
def _line_up(routes):
    """Lines from chosen."""
    begins = routes.begins
    begins[:] = 0
    for expert in routes.chosen.flat:
        begins[expert + 1] += 1
    for expert in range(1, len(begins)):
        begins[expert] += begins[expert - 1]
    for row in range(len(routes.chosen)):
        for place, expert in enumerate(routes.chosen[row]):
            routes.lines[row, place] = begins[expert]
            routes.rows[begins[expert]] = row
            begins[expert] += 1
    for expert in range(len(begins) - 1, 0, -1):
        begins[expert] = begins[expert - 1]
    begins[0] = 0
