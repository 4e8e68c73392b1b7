"""Queries, keys and values of the compiled step, placed where attention finds them: threads divide heads."""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from core.decoder.fused.machine import array_at, floats, matrix, narrow
from core.decoder.fused.records import LATENT
from core.decoder.fused.sharing import even_share
from core.decoder.fused.vectors import FAST, norm, rotate
from core.weights.kernel import MOST_ROWS


@njit(nogil=True, fastmath=FAST)
def place_heads(m, p, layer, room, thread):
    """Queries and keys are biased, normed and rotated, keys and values written into the cache.

    For a layer that attends outside, all stay where they are. A latent comes after the queries, as if it were one more head.
    """
    size, heads, kv_heads = m.head_size, m.query_heads, layer.kv_heads
    shared = heads // kv_heads
    qkv = matrix(p.qkv, p.rows, m.qkv_width)
    begin, end = even_share(p, thread, heads + (1 if layer.latent else kv_heads))
    for head in range(begin, end):
        for row in range(p.rows):
            if head == heads and layer.latent:
                _place_latent(m, p, layer, row, qkv[row, head * size :])
                continue
            part = qkv[row, head * size : (head + 1) * size]
            if layer.biases:
                _add(part, floats(layer.biases + 4 * head * size, size))
            if head < heads:
                target = part if layer.attends_outside else floats(queries_at(m, p, shared, head, row), size)
                _turn(part, layer.q_norm, m.eps, layer, p.position + row, target)
                continue
            key = part if layer.attends_outside else room[:size]
            _turn(part, layer.k_norm, m.eps, layer, p.position + row, key)
            values = qkv[row, (head + kv_heads) * size : (head + kv_heads + 1) * size]
            if layer.biases:
                _add(values, floats(layer.biases + 4 * (head + kv_heads) * size, size))
            if not layer.attends_outside:
                at = ((head - heads) * p.capacity + place_of(p, p.slot + row)) * size * p.kv_bytes
                _write(key, layer.keys + at, p.kv_bytes)
                _write(values, layer.values + at, p.kv_bytes)


@njit(nogil=True)
def _place_latent(m, p, layer, row, latent):
    """Both parts into the cache, as if one were a key and the other a value."""
    first, second = latent_of(layer).first, latent_of(layer).second
    latent = latent[: first + second]
    _add(latent, floats(layer.biases + 4 * m.query_heads * m.head_size, first + second))
    if not layer.attends_outside:
        _write(latent[:first], layer.keys + (p.slot + row) * first * p.kv_bytes, p.kv_bytes)
        _write(latent[first:], layer.values + (p.slot + row) * second * p.kv_bytes, p.kv_bytes)


@njit(nogil=True)
def latent_of(layer):
    """What the compiled step knows of a layer that caches latents."""
    return carray(array_at(layer.latent), 1, LATENT)[0]


@njit(nogil=True)
def place_of(p, slot):
    """Where a slot is in the buffers."""
    return carray(array_at(p.table), slot + 1, np.int64)[slot] if p.table else slot


@njit(nogil=True)
def queries_at(m, p, shared, head, row):
    """The address of a query, and of those after it that share its KV head: by group of rows, KV head, row and query head."""
    first = row // MOST_ROWS * MOST_ROWS
    rows = min(MOST_ROWS, p.rows - first)
    place = m.query_heads * first + (head // shared * rows + row - first) * shared + head % shared
    return p.queries + 4 * place * m.head_size


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
