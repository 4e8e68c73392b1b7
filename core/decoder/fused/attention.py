"""Attention of the compiled step: threads divide chunks of coded blocks and of slots, and each joins all chunks.

A chunk is computed from scores to weighted values while it is in the nearest cache, with a softmax of its own. A few rows
go together; chunks that none of them sees are left out.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from core.attention.kernel import CHUNK
from core.compiled.emitter import LANES
from core.decoder.fused.chunks import chunk_of, chunks_of, coded_tokens, seen_of
from core.decoder.fused.machine import array_at, call, float_to_bits, floats, half_bits
from core.decoder.fused.sharing import even_share, first_share, next_share
from core.decoder.fused.vectors import FAST
from core.weights.kernel import MOST_ROWS

ROOM = CHUNK + LANES  # numbers of a row of scores, with what kernels overwrite after the last


@njit(nogil=True)
def attend_in_chunks(m, p, layer, scores, seen, first_row, rows, thread, place):
    """A share of the chunks, each with all query heads of a KV head: sums of values, and peaks and totals of scores.

    scores: address of room for `rows` rows of a chunk. seen: where among `p.seen`, or −1. place: of the counter of shares.
    """
    chunks, queries = chunks_of(m, p, layer, first_row, rows), m.query_heads // layer.kv_heads * rows
    items = layer.kv_heads * chunks.total
    folded, laid, laid_head = p.folded + thread * p.folded_size, p.laid + thread * p.laid_size, -1
    begin, end = first_share(p, thread, items)
    if m.lay_queries:
        call(m.open_tiles, (m.tiles_config,))
    while begin < items:
        for item in range(begin, end):
            head, index = item // chunks.total, item % chunks.total
            line = index * m.query_heads * MOST_ROWS + head * queries
            q = p.queries + 4 * (m.query_heads * first_row + head * queries) * m.head_size
            if index < chunks.coded:
                _attend_coded(m, p, layer, chunks, scores, folded, seen, first_row, head, index, line, q, queries)
                continue
            if m.lay_queries and head != laid_head:
                call(m.lay_queries, (q, queries, laid))
                laid_head = head
            chunk, q = chunk_of(m, chunks, index), laid if m.lay_queries else q
            keys = _rows_at(m, p, layer.keys, head, chunk, thread, 0)
            values = _rows_at(m, p, layer.values, head, chunk, thread, 1)
            source = keys, values, m.scores_kernel, m.mix_kernel, m.head_size
            attend_slots(m, p, layer, chunk, source, scores, seen, first_row, head, line, q, queries)
        begin, end = next_share(p, place, items, 1)
    if m.lay_queries:
        call(m.close_tiles, ())


@njit(nogil=True)
def _attend_coded(m, p, layer, chunks, scores, folded, seen, first_row, head, index, line, q, queries):
    """A chunk of blocks."""
    token = index * CHUNK
    count = min(chunks.tokens - token, CHUNK)
    records = layer.records + (head * p.blocks + token // m.group) * m.record_size
    call(m.coded_scores, (records, count // m.group, q, queries, scores, ROOM, folded))
    for query in range(queries):
        row = first_row + query // (m.query_heads // layer.kv_heads)
        end = max(0, min(coded_tokens(p, row) - token, count))
        _weigh(m, p, layer, scores, seen, head, query, row, (0, 0, end, count), line, token, 0)
    call(m.coded_mix, (records, count // m.group, scores, queries, ROOM, p.mixed + 4 * line * m.head_size, folded))


@njit(nogil=True)
def attend_slots(m, p, layer, chunk, source, scores, seen, first_row, head, line, q, queries):
    """A chunk of slots. source: addresses of their keys and values, of what reads them, and the numbers of a value."""
    (slot, sunk, begin, end), (keys, values, scores_kernel, mix_kernel, size) = chunk, source
    if sunk:
        call(scores_kernel, (keys, q, queries, scores, ROOM, 0, sunk))
    if end > begin:
        call(scores_kernel, (keys, q, queries, scores, ROOM, begin, end))
    for query in range(queries):
        row = first_row + query // (m.query_heads // layer.kv_heads)
        own_sunk, own_begin, own_end = seen_of(m, p, layer, chunk, row)
        runs = own_sunk, own_begin, own_end, end
        _weigh(m, p, layer, scores, seen, head, query, row, runs, line, _before_slots(p) + slot, _shown_from(chunk))
    sums = p.mixed + 4 * line * size
    floats(sums, queries * size)[:] = 0
    first, last = 0 if sunk else begin, end if end > begin else sunk
    if last > first:  # one run, so that sums are the same whether rows beside this one see what is between its two
        call(mix_kernel, (values, scores, queries, ROOM, sums, first, last))


@njit(nogil=True)
def _rows_at(m, p, buffer, head, chunk, thread, part):
    """The address of a chunk's keys (part 0) or values of one head, put together for this thread where they are in pieces."""
    nbytes = m.head_size * p.kv_bytes
    heads = buffer + head * p.capacity * nbytes
    if not p.table:
        return heads + chunk.slot * nbytes
    start = carray(array_at(p.starts), p.slots // CHUNK + 1, np.int64)[chunk.slot // CHUNK]
    if start >= 0:
        return heads + start * nbytes
    kept, first = p.gathered + thread * p.gathered_size + part * CHUNK * nbytes, 0 if chunk.sunk else chunk.begin
    call(m.gather, (heads, p.table + 8 * (chunk.slot + first), chunk.end - first, kept + first * nbytes))
    return kept


@njit(nogil=True)
def _before_slots(p):
    """What is shown before the first slot: tokens of blocks."""
    return coded_tokens(p, p.rows - 1)


@njit(nogil=True)
def _shown_from(chunk):
    """The first slot of a chunk that any row sees."""
    return 0 if chunk.sunk else chunk.begin


@njit(nogil=True)
def _weigh(m, p, layer, scores, seen, head, query, row, runs, line, place, first):
    """Softmax of one query's scores of a chunk by itself; what it does not see weighs nothing.

    runs: see softmax_kernel. place: of the chunk among what is shown, from its number `first` on.
    """
    shared, (sunk, begin, end, stop) = m.query_heads // layer.kv_heads, runs
    own = scores + 4 * query * ROOM
    call(m.softmax, (
        own, sunk, begin, end, stop, float_to_bits(m.scale), float_to_bits(m.cap), p.stats + 8 * (line + query),
    ))  # fmt: skip
    if seen >= 0:
        weights = floats(p.seen + 4 * _place_of(m, p, seen, head * shared + query % shared, row), p.slots)
        weights[place + first : place + stop] = floats(own, stop)[first:]


@njit(nogil=True)
def _place_of(m, p, seen, head, row):
    """The first of a row's weights, in `p.seen` and in `p.shown`."""
    return ((seen * m.query_heads + head) * p.rows + row) * p.slots


@njit(nogil=True)
def join_chunks(m, p, layer, count, first_row, rows, out):
    """Attention of these rows from `count` chunks, into out [T, H · D]."""
    shared, size, lines = m.query_heads // layer.kv_heads, m.head_size, m.query_heads * MOST_ROWS
    for head in range(m.query_heads):
        for row in range(rows):
            line = (head // shared * rows + row) * shared + head % shared
            target = out + 4 * ((first_row + row) * m.query_heads + head) * size
            call(m.join, (p.mixed + 4 * line * size, 4 * lines * size, p.stats + 8 * line, 8 * lines, count, target))


@njit(nogil=True, fastmath=FAST)
def show_weights(m, p, layer, seen, first_row, rows, thread):
    """Make this thread's share of what was seen of chunks the weights over all of them, as float16."""
    chunks = chunks_of(m, p, layer, first_row, rows)
    shared, lines = m.query_heads // layer.kv_heads, m.query_heads * MOST_ROWS
    stats = carray(array_at(p.stats), (chunks.total, lines, 2), np.float32)
    begin, end = even_share(p, thread, m.query_heads)
    for head in range(begin, end):
        for row in range(rows):
            line = (head // shared * rows + row) * shared + head % shared
            peak = stats[:, line, 0].max()
            total = (np.exp(stats[:, line, 0] - peak) * stats[:, line, 1]).sum()
            place = _place_of(m, p, seen, head, first_row + row)
            weights, shown = floats(p.seen + 4 * place, p.slots), carray(array_at(p.shown + 2 * place), (p.slots,), np.uint16)
            for index in range(chunks.total):
                first, last = _shown_run(m, p, chunks, index)
                share = np.float32(np.exp(stats[index, line, 0] - peak) / total)
                for i in range(first, last):
                    shown[i] = half_bits(weights[i] * share)


@njit(nogil=True)
def _shown_run(m, p, chunks, index):
    """Where the weights of a chunk are among all that are shown."""
    if index < chunks.coded:
        return index * CHUNK, min(chunks.tokens, (index + 1) * CHUNK)
    chunk = chunk_of(m, chunks, index)
    place = _before_slots(p) + chunk.slot
    return place + _shown_from(chunk), place + chunk.end
