"""Attention of the compiled step to listed slots: what a sparse pattern hides is neither read nor computed.

Rows go one by one, each with its own lists, so that one comes out the same whatever rows are computed with it.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from core.attention.kernel import CHUNK, LOWEST
from core.decoder.fused.attention import ROOM
from core.decoder.fused.machine import array_at, call, float_to_bits, floats
from core.decoder.fused.placing import queries_at
from core.decoder.fused.sharing import first_share, next_share
from core.weights.kernel import MOST_ROWS


@njit(nogil=True)
def chunks_of_lists(p, layer, row):
    """Chunks of the longest list of a row; others may have less in them."""
    longest = 0
    for one in range(layer.lists):
        longest = max(longest, lists_of(p, layer)[row, one, 1])
    return (longest + CHUNK - 1) // CHUNK


@njit(nogil=True)
def attend_to_lists(m, p, layer, scores, row, thread, place):
    """A share of the chunks of one row, as `attend_in_chunks`."""
    chunks, shared = chunks_of_lists(p, layer, row), m.query_heads // layer.lists
    laid, laid_list = p.laid + thread * p.laid_size, -1
    items, kept = layer.lists * chunks, p.gathered + thread * p.gathered_size
    begin, end = first_share(p, thread, items)
    if m.lay_queries:
        call(m.open_tiles, (m.tiles_config,))
    while begin < items:
        for item in range(begin, end):
            one, index = item // chunks, item % chunks
            q = queries_at(m, p, m.query_heads // layer.kv_heads, one * shared, row)
            if m.lay_queries and one != laid_list:
                call(m.lay_queries, (q, shared, laid))
                laid_list = one
            line = index * m.query_heads * MOST_ROWS + one * shared
            _attend(m, p, layer, scores, kept, row, one, index, line, laid if m.lay_queries else q, shared)
        begin, end = next_share(p, place, items, 1)
    if m.lay_queries:
        call(m.close_tiles, ())


@njit(nogil=True)
def _attend(m, p, layer, scores, kept, row, one, index, line, q, queries):
    address, length, known = lists_of(p, layer)[row, one]
    begin = index * CHUNK
    count = max(0, min(length - begin, CHUNK))
    slots, size = address + 8 * begin, m.head_size
    sums, at = p.mixed + 4 * line * size, one * layer.kv_heads // layer.lists * p.capacity * size * p.kv_bytes
    floats(sums, queries * size)[:] = 0
    if known:
        scores = known + 4 * begin
    else:
        call(m.gather, (layer.keys + at, slots, count, kept))
        call(m.scores_kernel, (kept, q, queries, scores, ROOM, 0, count))
    for query in range(queries):
        own, stats = scores + 4 * query * ROOM, p.stats + 8 * (line + query)
        if count:
            call(m.softmax, (own, 0, 0, count, count, float_to_bits(m.scale), float_to_bits(m.cap), stats))
        else:
            floats(stats, 2)[0], floats(stats, 2)[1] = LOWEST, 0
    call(m.gather, (layer.values + at, slots, count, kept))
    call(m.mix_kernel, (kept, scores, queries, ROOM, sums, 0, count))


@njit(nogil=True)
def lists_of(p, layer):
    """The table of `Lists`."""
    return carray(array_at(layer.listed), (p.rows, layer.lists, 3), np.int64)
