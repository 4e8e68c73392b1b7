"""Attention of the compiled step, in four parts with a barrier after each.

Threads divide heads, then slots of the cache, then heads again, then chunks of slots. Scores of a row lie side by
side: of the sinks that the layer's window has left behind first, then, from a multiple of four on, of the slots from the
first that any row of the pass sees.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from core.attention.kernel import CHUNK
from core.decoder.fused.machine import array_at, call, float_to_bits, floats, matrix, narrow
from core.decoder.fused.vectors import FAST, norm, rotate


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
                index = (head // shared * p.rows + row) * shared + head % shared
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
def _span(p, layer):
    """Sinks kept apart, the first slot after them that a row sees, the end, and the place of slot 0 among the scores."""
    first = max(0, p.end + 1 - layer.window)
    if layer.sinks >= first:
        return 0, 0, p.end + p.rows, 0
    return layer.sinks, first, p.end + p.rows, (layer.sinks + 3) // 4 * 4 - first


@njit(nogil=True)
def score(m, p, layer, thread):
    """This thread's slots with all queries."""
    sinks, first, stop, origin = _span(p, layer)
    fours = (stop - first + 3) // 4
    begin = first + fours * thread // p.threads * 4
    end = min(stop, first + fours * (thread + 1) // p.threads * 4)
    queries = m.query_heads // layer.kv_heads * p.rows
    for head in range(layer.kv_heads):
        keys = layer.keys + head * p.capacity * m.head_size * p.kv_bytes
        q = p.queries + 4 * head * queries * m.head_size
        scores = p.scores + 4 * head * queries * p.stride
        if sinks and thread == 0:
            call(m.scores_kernel, (keys, q, queries, scores, p.stride, 0, sinks, 0))
        if end > begin:
            call(m.scores_kernel, (keys, q, queries, scores, p.stride, begin, end, origin))


@njit(nogil=True, fastmath=FAST)
def weigh(m, p, layer, seen, thread):
    """Softmax of this thread's rows of scores; what a row does not see weighs nothing."""
    _, _, stop, origin = _span(p, layer)
    shared = m.query_heads // layer.kv_heads
    items = m.query_heads * p.rows
    for item in range(items * thread // p.threads, items * (thread + 1) // p.threads):
        row = item // shared % p.rows
        scores = floats(p.scores + 4 * item * p.stride, stop + origin)
        from_ = max(0, p.end + row + 1 - layer.window)
        sunk, begin, end = min(layer.sinks, from_), from_ + origin, p.end + row + 1 + origin
        call(m.softmax, (
            p.scores + 4 * item * p.stride, sunk, begin, end, stop + origin, float_to_bits(m.scale), float_to_bits(m.cap)
        ))  # fmt: skip
        if seen >= 0:
            head = item // (shared * p.rows) * shared + item % shared
            shown = floats(p.seen + 4 * ((seen * m.query_heads + head) * p.rows + row) * p.slots, p.slots)
            shown[:sunk] = scores[:sunk]
            shown[from_ : p.end + row + 1] = scores[begin:end]


@njit(nogil=True)
def mix(m, p, layer, thread):
    """Weighted sums of values over this thread's chunks of slots; sinks are a chunk of their own, the first."""
    sinks, first, stop, origin = _span(p, layer)
    queries = m.query_heads // layer.kv_heads * p.rows
    chunk = first // CHUNK
    chunks = (stop + CHUNK - 1) // CHUNK - chunk + 1
    items = layer.kv_heads * chunks
    for item in range(items * thread // p.threads, items * (thread + 1) // p.threads):
        head, index = item // chunks, item % chunks
        sums = p.mixed + 4 * (index * m.query_heads * p.rows + head * queries) * m.head_size
        floats(sums, queries * m.head_size)[:] = 0
        values = layer.values + head * p.capacity * m.head_size * p.kv_bytes
        weights = p.scores + 4 * head * queries * p.stride
        begin, end = max(first, (chunk + index - 1) * CHUNK), min(stop, (chunk + index) * CHUNK)
        if index == 0:
            call(m.mix_kernel, (values, weights, queries, p.stride, sums, 0, sinks, 0))
        else:
            call(m.mix_kernel, (values, weights, queries, p.stride, sums, begin, end, origin))
    return chunks


@njit(nogil=True, fastmath=FAST)
def gather(m, p, layer, chunks, out):
    """The chunks' sums [chunks, H · T, D], by KV head, row and query head, added up in rows of heads."""
    shared, size = m.query_heads // layer.kv_heads, m.head_size
    mixed = matrix(p.mixed, chunks * m.query_heads * p.rows, size)
    for head in range(m.query_heads):
        for row in range(p.rows):
            index = (head // shared * p.rows + row) * shared + head % shared
            total = out[row, head * size : (head + 1) * size]
            total[:] = mixed[index]
            for chunk in range(1, chunks):
                _add(total, mixed[chunk * m.query_heads * p.rows + index])
