"""What a thread of the compiled step has of its own, where threads meet, and the products that they divide."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import carray, njit

from core.decoder.fused.attention import ROOM
from core.decoder.fused.machine import array_at, barrier, call, ticks
from core.decoder.fused.records import COUNTS, NOW, PART, TURN
from core.decoder.fused.sharing import first_share, next_share
from core.weights.kernel import MOST_ROWS

_BLOCKS = 2  # of sixteen output rows: the fewest that are worth asking for


class Own(NamedTuple):
    """What a thread keeps for itself: its counts, and addresses of x [T, C], of h [T, widest], which products read, of room
    for scores, of rows of h that an expert takes, and of room for quantized h."""

    thread: int
    counts: np.ndarray
    x: int
    h: int
    scores: int
    taken: int
    room: int


@njit(nogil=True)
def own_of(thread, m, p):
    counts = carray(array_at(p.counts + 8 * COUNTS * thread), COUNTS, np.int64)
    x = p.private + thread * p.private_size
    h = x + 4 * p.rows * m.width
    scores = h + 4 * p.rows * m.widest
    taken = scores + 4 * m.query_heads * MOST_ROWS * ROOM
    return Own(thread, counts, x, h, scores, taken, taken + 4 * p.rows * m.taken_width)


@njit(nogil=True)
def meet(p, own):
    """Wait until every thread has come here."""
    own.counts[TURN] += 1
    barrier(p.meeting, own.counts[TURN], p.threads)


@njit(nogil=True)
def charge(own, phase):
    now = ticks()
    own.counts[phase] += now - own.counts[NOW]
    own.counts[NOW] = now


@njit(nogil=True)
def product(m, p, own, first, last, x, width, y, y_width, rows):
    """A share of the output rows of parts first … last − 1."""
    quantized = 0
    for index in range(first, last):
        quantized = product_of_part(m, p, own, index, x, width, y, y_width, rows, quantized)


@njit(nogil=True)
def product_of_part(m, p, own, index, x, width, y, y_width, rows, quantized):
    """The same of one part; returns in how many groups x is quantized now. quantized: in how many it was before."""
    part = carray(array_at(m.parts), m.part_count, PART)[index]
    if part.groups != quantized:
        _quantize(m, own, x, width, part.groups, rows)
    begin, end = first_share(p, own.thread, part.blocks)
    while begin < part.blocks:
        _multiply(m, own, part, x, width, y, y_width, rows, begin, end)
        begin, end = next_share(p, index, part.blocks, _BLOCKS)
    return part.groups


@njit(nogil=True)
def _quantize(m, own, x, width, groups, rows):
    """Into this thread's room; nothing where products take float32, without groups."""
    if groups:
        scales, step = own.room + 2 * rows * m.widest, 4 * rows * m.most_groups
        call(m.quantizer, (x, own.room, scales, scales + step, scales + 2 * step, rows * groups, width // groups))


@njit(nogil=True)
def _multiply(m, own, part, x, width, y, y_width, rows, begin, end):
    """Blocks `begin` … `end` − 1 of a part's output rows."""
    groups, scales, step = part.groups, own.room + 2 * rows * m.widest, 4 * rows * m.most_groups
    for row in range(0, rows, MOST_ROWS):
        source = own.room + 2 * row * width if groups else x + 4 * row * width
        target, of_group = y + 4 * (row * y_width + part.first_row), scales + 4 * row * groups
        call(part.function, (
            part.codes, part.scales, part.offsets, source, of_group, of_group + step, of_group + 2 * step, target, groups,
            part.units, y_width, begin, end, min(MOST_ROWS, rows - row),
        ))  # fmt: skip
