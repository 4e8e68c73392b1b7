"""Keys that query heads choose by their scores, in the compiled step. See core/attention/topk.py."""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from core.attention.kernel import CHUNK
from core.decoder.fused.listed import lists_of
from core.decoder.fused.machine import array_at, call, floats
from core.decoder.fused.placing import queries_at
from core.decoder.fused.sharing import even_share, first_share, next_share

_RUN = 4 * CHUNK  # slots that a thread scores at a time


@njit(nogil=True)
def score_keys(m, p, layer, first_row, rows, thread, place):
    """A share of the scores of all keys for some rows, into the room of `Ranks`. place: of the counter of shares."""
    stop, shared = p.end + first_row + rows, m.query_heads // layer.kv_heads
    runs, laid, laid_head = (stop + _RUN - 1) // _RUN, p.laid + thread * p.laid_size, -1
    items, room = layer.kv_heads * runs, layer.score_room
    begin, end = first_share(p, thread, items)
    if m.lay_queries:
        call(m.open_tiles, (m.tiles_config,))
    while begin < items:
        for item in range(begin, end):
            head, first = item // runs, item % runs * _RUN
            q, scores = queries_at(m, p, shared, head * shared, first_row), lists_of(p, layer)[first_row, head * shared, 2]
            if m.lay_queries and head != laid_head:
                call(m.lay_queries, (q, shared * rows, laid))
                laid_head = head
            keys = layer.keys + head * p.capacity * m.head_size * p.kv_bytes
            queries = laid if m.lay_queries else q
            call(m.scores_kernel, (keys, queries, shared * rows, scores, room, first, min(stop, first + _RUN)))
        begin, end = next_share(p, place, items, 1)
    if m.lay_queries:
        call(m.close_tiles, ())


@njit(nogil=True)
def choose_highest(m, p, layer, first_row, rows, thread):
    """List each row's own key and the others with the highest scores, and their scores, for this thread's query heads."""
    items = rows * layer.lists
    begin, end = even_share(p, thread, items)
    for item in range(begin, end):
        row = first_row + item // layer.lists
        address, count, scores = lists_of(p, layer)[row, item % layer.lists]
        own = p.end + row
        slots, of_scores = carray(array_at(address), count, np.int64), floats(scores, own + 1)
        if count > own:
            slots[:] = np.arange(count)
            continue
        call(m.choose, (scores, 0, own, count - 1, address, scores, 0, 0, 1))
        slots[count - 1], of_scores[count - 1] = own, of_scores[own]
