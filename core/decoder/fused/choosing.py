"""Blocks of keys that rows choose by summaries of them, in the compiled step. See core/attention/block_topk.py."""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from core.decoder.fused.listed import lists_of
from core.decoder.fused.machine import array_at, matrix, widen
from core.decoder.fused.placing import queries_at
from core.decoder.fused.vectors import FAST


@njit(nogil=True)
def summarize(m, p, layer, thread):
    """The blocks that become whole in this pass, of this thread's KV heads."""
    first, end = p.position // layer.block, (p.position + p.rows) // layer.block
    width = m.head_size * (2 if layer.bounds else 1)
    for head in range(thread, layer.kv_heads, p.threads):
        summaries = matrix(layer.summaries + 4 * head * layer.summary_room * width, layer.summary_room, width)
        for block in range(first, end):
            at = layer.keys + (head * p.capacity + block * layer.block) * m.head_size * p.kv_bytes
            if p.kv_bytes == 4:
                _summarize(carray(array_at(at), (layer.block, m.head_size), np.float32), layer.bounds, summaries[block])
            else:
                _summarize(carray(array_at(at), (layer.block, m.head_size), np.uint16), layer.bounds, summaries[block])


@njit(nogil=True, fastmath=FAST)
def _summarize(keys, bounds, summary):
    """The lowest and the highest number of each dimension, or the mean."""
    tokens, size = keys.shape
    for i in range(size):
        low = high = total = widen(keys[0, i])
        for token in range(1, tokens):
            x = widen(keys[token, i])
            low, high, total = min(low, x), max(high, x), total + x
        if bounds:
            summary[i], summary[size + i] = low, high
        else:
            summary[i] = total / np.float32(tokens)


@njit(nogil=True)
def choose(m, p, layer, row, thread):
    """List the slots of the first, the chosen and the most recent blocks that a row sees, for this thread's KV heads."""
    end = p.position + row + 1
    last = max(layer.first_blocks, (end - 1) // layer.block + 1 - layer.local_blocks)  # after those to choose among
    lists = lists_of(p, layer)
    for head in range(thread, layer.kv_heads, p.threads):
        slots = carray(array_at(lists[row, head, 0]), end, np.int64)
        if last - layer.first_blocks <= layer.best:
            slots[:] = np.arange(end)
            lists[row, head, 1] = end
            continue
        scores = _scores(m, p, layer, row, head, last)[layer.first_blocks :]
        chosen = np.sort(np.argsort(-scores, kind="mergesort")[: layer.best]) + layer.first_blocks
        count = _put(slots, 0, 0, layer.first_blocks * layer.block)
        for block in chosen:
            count = _put(slots, count, block * layer.block, (block + 1) * layer.block)
        lists[row, head, 1] = _put(slots, count, last * layer.block, end)


@njit(nogil=True)
def _put(slots, count, first, end):
    """Slots first … end − 1 after the `count` that are listed; how many there are then."""
    slots[count : count + end - first] = np.arange(first, end)
    return count + end - first


@njit(nogil=True, fastmath=FAST)
def _scores(m, p, layer, row, head, count):
    """Of the first `count` blocks: the products of their summaries with the queries of the head, added up."""
    width = m.head_size * (2 if layer.bounds else 1)
    query, scores = _query(m, p, layer, row, head, np.zeros(width, np.float32)), np.empty(count, np.float32)
    summaries = matrix(layer.summaries + 4 * head * layer.summary_room * width, layer.summary_room, width)
    for block in range(count):
        total = np.float32(0)
        for i in range(width):
            total += query[i] * summaries[block, i]
        scores[block] = total
    return scores


@njit(nogil=True)
def _query(m, p, layer, row, head, query):
    """`query`, which is 0, plus the queries that share a KV head; for bounds, their negative and their positive parts."""
    shared, size = m.query_heads // layer.kv_heads, m.head_size
    queries = matrix(queries_at(m, p, shared, head * shared, row), shared, size)
    for one in range(shared):
        for i in range(size):
            x = queries[one, i]
            query[size + i if layer.bounds and x > 0 else i] += x
    return query
