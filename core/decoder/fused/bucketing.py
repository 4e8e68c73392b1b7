"""Keys that share a bucket with a query, in the compiled step. See core/attention/lsh.py."""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from core.decoder.fused.listed import lists_of
from core.decoder.fused.machine import array_at, floats, matrix, widen
from core.decoder.fused.placing import queries_at
from core.decoder.fused.sharing import even_share
from core.decoder.fused.vectors import FAST


@njit(nogil=True)
def fill_buckets(m, p, layer):
    """Of the keys that came. Every thread finds all of them, which takes no longer than to wait for one that does."""
    key, room, buckets = np.empty(m.head_size, np.float32), _room(layer), _buckets_of_keys(layer)
    for head in range(layer.kv_heads):
        for row in range(p.rows):
            at = layer.keys + (head * p.capacity + p.slot + row) * m.head_size * p.kv_bytes
            if p.kv_bytes == 4:
                _widen(carray(array_at(at), m.head_size, np.float32), key)
            else:
                _widen(carray(array_at(at), m.head_size, np.uint16), key)
            _find(m, layer, key, room, buckets[:, head, p.position + row])


@njit(nogil=True)
def choose_by_buckets(m, p, layer, row, thread):
    """List the slots whose keys are near or share a bucket with the query, for this thread's query heads."""
    end, shared, buckets = p.end + row + 1, m.query_heads // layer.kv_heads, _buckets_of_keys(layer)
    own, seen, room, lists = np.empty(layer.rounds, np.uint8), np.empty(end, np.uint8), _room(layer), lists_of(p, layer)
    begin, last = even_share(p, thread, m.query_heads)
    for head in range(begin, last):
        _find(m, layer, floats(queries_at(m, p, shared, head, row), m.head_size), room, own)
        for of_round in range(layer.rounds):
            _match(buckets[of_round, head // shared, :end], own[of_round], of_round == 0, seen)
        seen[max(0, end - layer.nearest) :] = 1
        lists[row, head, 1] = _list(seen, carray(array_at(lists[row, head, 0]), end + 1, np.int64))


@njit(nogil=True)
def _buckets_of_keys(layer):
    return carray(array_at(layer.buckets), (layer.rounds, layer.kv_heads, layer.bucket_room), np.uint8)


@njit(nogil=True)
def _room(layer):
    return np.empty(layer.rounds * layer.axes, np.float32)


@njit(nogil=True, fastmath=FAST)
def _widen(source, target):
    for i in range(len(target)):
        target[i] = widen(source[i])


@njit(nogil=True, fastmath=FAST)
def _find(m, layer, x, turned, buckets):
    """The bucket of x in each round: the nearest of its rotated axes, or of their opposites. turned: room for all."""
    rotations = matrix(layer.rotations, m.head_size, len(turned))
    turned[:] = 0
    for i in range(m.head_size):
        for axis in range(len(turned)):
            turned[axis] += x[i] * rotations[i, axis]
    for of_round in range(layer.rounds):
        axes = turned[of_round * layer.axes : (of_round + 1) * layer.axes]
        high, low = np.argmax(axes), np.argmin(axes)
        buckets[of_round] = high if axes[high] >= -axes[low] else layer.axes + low


@njit(nogil=True)
def _match(buckets, own, first, seen):
    """Whether each key is in the same bucket, or was in an earlier round."""
    if first:
        for slot in range(len(seen)):
            seen[slot] = buckets[slot] == own
    else:
        for slot in range(len(seen)):
            seen[slot] |= buckets[slot] == own


@njit(nogil=True)
def _list(seen, slots):
    """The slots that are seen; how many they are. What comes after the last is overwritten."""
    count = 0
    for slot in range(len(seen)):
        slots[count] = slot
        count += seen[slot]
    return count
