"""Attention of the compiled step: threads divide heads to place them, then chunks of slots, and each joins all chunks.

A chunk is computed from scores to weighted values while it is in the nearest cache, with a softmax of its own. A few rows
go together; chunks that none of them sees are left out.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from core.attention.kernel import CHUNK, TOGETHER
from core.decoder.fused.machine import array_at, call, float_to_bits, floats, half_bits, matrix, narrow
from core.decoder.fused.vectors import FAST, norm, rotate
from core.weights.kernel import MOST_ROWS

ROOM = CHUNK + TOGETHER  # numbers of a row of scores, with what the kernel overwrites after the last


@njit(nogil=True, fastmath=FAST)
def place_heads(m, p, layer, room, thread):
    """Queries and keys are biased, normed and rotated, keys and values written into the cache.

    For a layer that attends outside, all stay where they are.
    """
    size, heads, kv_heads = m.head_size, m.query_heads, layer.kv_heads
    shared = heads // kv_heads
    qkv = matrix(p.qkv, p.rows, m.qkv_width)
    items = heads + kv_heads
    for head in range(items * thread // p.threads, items * (thread + 1) // p.threads):
        for row in range(p.rows):
            part = qkv[row, head * size : (head + 1) * size]
            if layer.biases:
                _add(part, floats(layer.biases + 4 * head * size, size))
            if head < heads:
                index = _query(p, heads, shared, head, row)
                target = part if layer.attends_outside else floats(p.queries + 4 * index * size, size)
                _turn(part, layer.q_norm, m.eps, layer, p.position + row, target)
                continue
            key = part if layer.attends_outside else room[:size]
            _turn(part, layer.k_norm, m.eps, layer, p.position + row, key)
            values = qkv[row, (head + kv_heads) * size : (head + kv_heads + 1) * size]
            if layer.biases:
                _add(values, floats(layer.biases + 4 * (head + kv_heads) * size, size))
            if not layer.attends_outside:
                at = ((head - heads) * p.capacity + p.slot + row) * size * p.kv_bytes
                _write(key, layer.keys + at, p.kv_bytes)
                _write(values, layer.values + at, p.kv_bytes)


@njit(nogil=True)
def _query(p, heads, shared, head, row):
    """The place of a query: by group of rows, KV head, row and query head."""
    first = row // MOST_ROWS * MOST_ROWS
    rows = min(MOST_ROWS, p.rows - first)
    return heads * first + (head // shared * rows + row - first) * shared + head % shared


@njit(nogil=True, fastmath=FAST)
def _add(vector, bias):
    for i in range(len(vector)):
        vector[i] += bias[i]


@njit(nogil=True, fastmath=FAST)
def _turn(source, norm_weight, eps, layer, position, target):
    """target = source, normed where the family norms heads, and rotated to `position`."""
    if norm_weight:
        norm(source, floats(norm_weight, len(source)), eps, target)
    else:
        target[:] = source
    if layer.half:
        at = 4 * position * layer.half
        rotate(target, floats(layer.cos + at, layer.half), floats(layer.sin + at, layer.half))


@njit(nogil=True, fastmath=FAST)
def _write(source, address, kv_bytes):
    """Into the cache, in its number format: float32 or bfloat16."""
    if kv_bytes == 4:
        floats(address, len(source))[:] = source
    else:
        target = carray(array_at(address), (len(source),), np.uint16)
        for i in range(len(source)):
            target[i] = narrow(source[i], target[0])


@njit(nogil=True)
def chunks_of(p, layer, first_row, rows):
    """What these rows see, as sinks that stand apart, the first slot after them and the end; then the chunks of the sinks, the
    first chunk after those, and the number of all."""
    first, stop, sinks = max(0, p.end + first_row + 1 - layer.window), p.end + first_row + rows, layer.sinks
    if sinks >= first:
        sinks, first = 0, 0
    of_sinks = (sinks + CHUNK - 1) // CHUNK
    start = max(first // CHUNK, of_sinks)
    return sinks, first, stop, of_sinks, start, of_sinks + (stop + CHUNK - 1) // CHUNK - start


@njit(nogil=True)
def attend_in_chunks(m, p, layer, scores, seen, first_row, rows, thread):
    """This thread's chunks of slots, each with all query heads of a KV head: sums of values, and peaks and totals of scores.

    scores: the address of room for `rows` rows of a chunk. seen: where among `p.seen`, or −1.
    """
    sinks, first, stop, of_sinks, start, chunks = chunks_of(p, layer, first_row, rows)
    size, queries = m.head_size, m.query_heads // layer.kv_heads * rows
    items = layer.kv_heads * chunks
    for item in range(items * thread // p.threads, items * (thread + 1) // p.threads):
        head, index = item // chunks, item % chunks
        slot = (index if index < of_sinks else index - of_sinks + start) * CHUNK
        sunk, begin, end = max(0, min(sinks - slot, CHUNK)), max(0, min(first - slot, CHUNK)), min(stop - slot, CHUNK)
        at = (head * p.capacity + slot) * size * p.kv_bytes
        q = p.queries + 4 * (m.query_heads * first_row + head * queries) * size
        if sunk:
            call(m.scores_kernel, (layer.keys + at, q, queries, scores, ROOM, 0, sunk))
        if end > begin:
            call(m.scores_kernel, (layer.keys + at, q, queries, scores, ROOM, begin, end))
        line = index * m.query_heads * MOST_ROWS + head * queries
        _weigh(m, p, layer, scores, seen, first_row, head, slot, end, line, queries)
        sums = p.mixed + 4 * line * size
        floats(sums, queries * size)[:] = 0
        if sunk:
            call(m.mix_kernel, (layer.values + at, scores, queries, ROOM, sums, 0, sunk))
        if end > begin:
            call(m.mix_kernel, (layer.values + at, scores, queries, ROOM, sums, begin, end))


@njit(nogil=True)
def _weigh(m, p, layer, scores, seen, first_row, head, slot, stop, line, queries):
    """Softmax of every row of a chunk's scores by itself; what a row does not see weighs nothing."""
    shared = m.query_heads // layer.kv_heads
    for query in range(queries):
        row = first_row + query // shared
        from_ = max(0, p.end + row + 1 - layer.window)
        sunk, begin = max(0, min(layer.sinks, from_) - slot), max(0, from_ - slot)
        sunk, begin, end = min(sunk, stop), min(begin, stop), min(p.end + row + 1 - slot, stop)
        end = max(begin, end)
        call(m.softmax, (
            scores + 4 * query * ROOM, sunk, begin, end, stop, float_to_bits(m.scale), float_to_bits(m.cap),
            p.stats + 8 * (line + query),
        ))  # fmt: skip
        if seen >= 0:
            weights = floats(p.seen + 4 * _place_of(m, p, seen, head * shared + query % shared, row), p.slots)
            weights[slot : slot + stop] = floats(scores + 4 * query * ROOM, stop)


@njit(nogil=True)
def _place_of(m, p, seen, head, row):
    """The first of a row's weights, in `p.seen` and in `p.shown`."""
    return ((seen * m.query_heads + head) * p.rows + row) * p.slots


@njit(nogil=True)
def join_chunks(m, p, layer, first_row, rows, out):
    """Attention of these rows, into out [T, H · D]."""
    chunks = chunks_of(p, layer, first_row, rows)[5]
    shared, size, lines = m.query_heads // layer.kv_heads, m.head_size, m.query_heads * MOST_ROWS
    for head in range(m.query_heads):
        for row in range(rows):
            line = (head // shared * rows + row) * shared + head % shared
            target = out + 4 * ((first_row + row) * m.query_heads + head) * size
            call(m.join, (p.mixed + 4 * line * size, 4 * lines * size, p.stats + 8 * line, 8 * lines, chunks, target))


@njit(nogil=True, fastmath=FAST)
def show_weights(m, p, layer, seen, first_row, rows, thread):
    """Make this thread's share of what was seen of chunks the weights over all of them, as float16."""
    _, _, stop, of_sinks, start, chunks = chunks_of(p, layer, first_row, rows)
    shared, lines = m.query_heads // layer.kv_heads, m.query_heads * MOST_ROWS
    stats = carray(array_at(p.stats), (chunks, lines, 2), np.float32)
    for head in range(m.query_heads * thread // p.threads, m.query_heads * (thread + 1) // p.threads):
        for row in range(rows):
            line = (head // shared * rows + row) * shared + head % shared
            peak = stats[:, line, 0].max()
            total = (np.exp(stats[:, line, 0] - peak) * stats[:, line, 1]).sum()
            place = _place_of(m, p, seen, head, first_row + row)
            weights, shown = floats(p.seen + 4 * place, stop), carray(array_at(p.shown + 2 * place), (stop,), np.uint16)
            for index in range(chunks):
                slot = (index if index < of_sinks else index - of_sinks + start) * CHUNK
                share = np.float32(np.exp(stats[index, line, 0] - peak) / total)
                for i in range(slot, min(slot + CHUNK, stop)):
                    shown[i] = half_bits(weights[i] * share)
