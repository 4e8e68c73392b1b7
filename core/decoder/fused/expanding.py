"""Attention of the compiled step where a layer caches latents: all heads share them, as one key and one value.

Of keys, a chunk at a time is made of latents in a thread's nearest caches, for they are rotated to where they stand; values
are not, so that latents are weighed in their place, and only their sums become values.
"""

from __future__ import annotations

from numba import njit

from core.attention.kernel import CHUNK
from core.attention.latent_kernel import RUN
from core.decoder.fused.attention import attend_slots
from core.decoder.fused.chunks import chunk_of, chunks_of
from core.decoder.fused.machine import call, float_to_bits, floats
from core.decoder.fused.placing import latent_of
from core.decoder.fused.sharing import even_share, first_share, next_share
from core.weights.kernel import MOST_ROWS


@njit(nogil=True)
def attend_to_latents(m, p, layer, scores, seen, first_row, rows, thread, place):
    """As `attend_in_chunks`; a thread takes the heads of a chunk one after the other, whose latents stay at hand."""
    latent, chunks, queries = latent_of(layer), chunks_of(m, p, layer, first_row, rows), m.query_heads // layer.kv_heads * rows
    items, gathered = layer.kv_heads * chunks.total, -1
    kept, laid = p.gathered + thread * p.gathered_size, p.laid + thread * p.laid_size
    begin, end = first_share(p, thread, items)
    if m.lay_queries:
        call(m.open_tiles, (m.tiles_config,))
    while begin < items:
        for item in range(begin, end):
            index, head = item // layer.kv_heads, item % layer.kv_heads
            chunk = chunk_of(m, chunks, index)
            if index != gathered:
                _gather(m, p, layer, latent, chunk, kept)
                gathered = index
            q = p.queries + 4 * (m.query_heads * first_row + head * queries) * m.head_size
            if m.lay_queries:
                call(m.lay_queries, (q, queries, laid))
            keys = _expand(m, layer, latent, chunk, head, kept)
            line = index * m.query_heads * MOST_ROWS + head * queries
            source = keys, kept, latent.scores, latent.mix, latent.width
            attend_slots(m, p, layer, chunk, source, scores, seen, first_row, head, line, laid if m.lay_queries else q, queries)
        begin, end = next_share(p, place, items, 1)
    if m.lay_queries:
        call(m.close_tiles, ())


@njit(nogil=True)
def _begin_of(chunk):
    """The first slot of a chunk whose key is made."""
    return 0 if chunk.sunk else chunk.begin // RUN * RUN


@njit(nogil=True)
def _gather(m, p, layer, latent, chunk, target):
    """Both parts of the latents of a chunk in rows of `latent.width`; in float32 where there are no tiles."""
    begin = _begin_of(chunk)
    slot, at = chunk.slot + begin, target + begin * latent.width * (2 if m.lay_queries else 4)
    first, second = latent.first * p.kv_bytes, latent.second * p.kv_bytes
    call(latent.gather, (layer.keys + slot * first, layer.values + slot * second, at, chunk.end - begin))


@njit(nogil=True)
def _expand(m, layer, latent, chunk, head, kept):
    """The keys of one head for a chunk of latents; returns their address, after room for all latents and a run of products."""
    size, matrix, nbytes = m.head_size, latent.keys + head * latent.matrix_size, 2 if m.lay_queries else 4
    products = kept + CHUNK * latent.width * nbytes
    keys = products + 4 * RUN * size
    for slot in range(_begin_of(chunk), chunk.end, RUN):
        latents, count = kept + slot * latent.width * nbytes, min(RUN, chunk.end - slot)
        if m.lay_queries:
            call(latent.products, (latents, matrix, products))
        else:
            floats(products, count * size)[:] = 0
            call(latent.products, (matrix, latents, count, latent.width, products, 0, latent.width))
        at, mean = 4 * (chunk.slot + slot) * layer.half, latent.means + 4 * head * size
        target = keys + slot * size * nbytes
        call(latent.turn, (
            products, mean, layer.k_norm, float_to_bits(m.eps), layer.cos + at, layer.sin + at, target, count,
        ))  # fmt: skip
    return keys


@njit(nogil=True)
def join_latents(m, p, layer, first_row, rows, thread):
    """This thread's share of the attention of these rows, in the place of their queries as [T, H · D]."""
    latent, shared, size = latent_of(layer), m.query_heads // layer.kv_heads, m.head_size
    count, lines = chunks_of(m, p, layer, first_row, rows).total, m.query_heads * MOST_ROWS
    joined, items = p.gathered + thread * p.gathered_size, rows * layer.kv_heads
    begin, end = even_share(p, thread, items)
    for item in range(begin, end):
        row, head = item // layer.kv_heads, item % layer.kv_heads
        line = (head * rows + row) * shared
        out = p.queries + 4 * ((first_row + row) * m.query_heads + head * shared) * size
        for query in range(shared):
            sums, stats = p.mixed + 4 * (line + query) * latent.width, p.stats + 8 * (line + query)
            target = joined + 4 * query * latent.width
            call(latent.join, (sums, 4 * lines * latent.width, stats, 8 * lines, count, target))
            floats(out + 4 * query * size, size)[:] = floats(latent.means + 4 * (layer.kv_heads + head) * size, size)
        matrix = latent.values + head * latent.matrix_size
        call(latent.expand, (matrix, joined, shared, latent.width, out, 0, latent.width))
