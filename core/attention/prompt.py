"""Attention of many rows over a cache, of which no more is computed than the rows see, and no score of all pairs kept."""

from __future__ import annotations

import torch
from torch import Tensor

from core.attention.mask import Reach
from core.attention.mechanism import Rows, Site
from core.attention.sides import Edges
from core.attention.softmax import attend
from core.cache.base import KeyValues
from core.decoder.probe import Probe

_BLOCK = 256  # query rows
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def attend_after(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Full causal attention of queries [H, T, D], the last T positions of keys and values [G, S, D]; returns [T, H, D].

    In the number format of the queries. The two parts are joined by the logarithms of their sums, so no mask is needed.
    """
    past, shared = keys.shape[1] - queries.shape[1], len(queries) // len(keys)
    keys, values = keys.to(queries.dtype), values.to(queries.dtype)
    own = (part[:, past:].repeat_interleave(shared, 0)[None] for part in (keys, values))
    out, weight = _flash(queries[None], *own, 0.0, True, scale=scale)
    return _after(queries, keys[:, :past], values[:, :past], scale, out, weight)


def attend_sides(queries: Tensor, keys: Tensor, values: Tensor, edges: Edges, scale: float) -> Tensor:
    """Attention of queries [H, T, D], the last T slots, over keys and values [G, S, D] in both forms; returns [T, H, D].

    In the number format of the queries. Only what some of a block of queries see is masked.
    """
    (H, T, D), G = queries.shape, len(keys)
    keys, values, parts = keys.to(queries.dtype), values.to(queries.dtype), []
    for begin in range(0, T, _BLOCK):
        rows = range(begin, min(begin + _BLOCK, T))
        first, last = (int(edges.of_rows[row]) for row in (rows[0], rows[-1]))
        runs = slice(first, last), slice(edges.turn + first - edges.base, keys.shape[1] - T + rows.stop)
        near = [torch.cat([part[:, run] for run in runs], dim=1)[None] for part in (keys, values)]
        block = queries[:, rows.start : rows.stop]
        hidden = _hidden(edges, rows, first, last, runs[1]).repeat(H // G, 1)[None, None]
        mask = torch.zeros(hidden.shape, dtype=queries.dtype).masked_fill_(hidden, -torch.inf)
        out, weight = _flash(block.reshape(1, G, -1, D), *near, 0.0, False, attn_mask=mask, scale=scale)
        parts.append(_after(block, keys[:, :first], values[:, :first], scale, out, weight))
    return torch.cat(parts)


def _hidden(edges: Edges, rows: range, first: int, last: int, second: slice) -> Tensor:
    """Bool [T, n]: positions first … last − 1 of the first side, then slots `second` of the other, of which row 0 has its own
    `len(rows)` before the end."""
    edge = torch.from_numpy(edges.of_rows[rows.start : rows.stop])[:, None]
    coded, exact = torch.arange(first, last), first + torch.arange(second.stop - second.start)
    own = exact[len(exact) - len(rows) :, None]
    return torch.cat((coded >= edge, (exact < edge) | (exact > own)), dim=1)


def _after(queries: Tensor, keys: Tensor, values: Tensor, scale: float, out: Tensor, weight: Tensor) -> Tensor:
    """[T, H, D]: what queries [H, T, D] attended to, and all of keys and values [G, S, D] before that.

    out, weight: of the former, and the logarithms of its sums, heads that share a KV head one after the other.
    """
    (H, T, D), G = queries.shape, len(keys)
    out = out.reshape(1, H, T, D)
    if keys.shape[1]:
        # Query heads that share a KV head become rows of one head: without a mask, rows are all alike.
        stacked = queries.reshape(1, G, -1, D)
        before, before_weight = _flash(stacked, keys[None], values[None], 0.0, False, scale=scale)
        share = torch.sigmoid(before_weight.reshape(1, H, T) - weight.reshape(1, H, T))[..., None].to(queries.dtype)
        out = torch.lerp(out, before.reshape(1, H, T, D), share.expand(-1, -1, -1, D))
    attended: Tensor = out[0].transpose(0, 1)
    return attended


def attend_in_blocks(queries: Tensor, kv: KeyValues, positions: Tensor, reach: Reach, site: Site) -> Tensor:
    """Attention of queries [T, H, D] at ascending `positions` within `reach`; returns [T, H, D] float32.

    The keys are at ascending positions. Each block of queries takes those that its window and its sinks reach.
    """
    parts = []
    for block, at in zip(torch.split(queries, _BLOCK), torch.split(positions, _BLOCK), strict=True):
        parts.append(attend(block, _reached(kv, at, reach), Rows(at, Probe()), reach, site))
    return torch.cat(parts)


def _reached(kv: KeyValues, queries: Tensor, reach: Reach) -> KeyValues:
    """The keys and values that queries at these positions can see."""
    edges = [0, int(queries[-1]) + 1]
    first = 0 if reach.window is None else int(queries[0]) + 1 - reach.window
    if first > reach.sinks:
        edges = [0, reach.sinks, first, edges[1]]
    at = torch.searchsorted(kv.positions, torch.tensor(edges)).tolist()
    runs = [slice(*run) for run in zip(at[::2], at[1::2], strict=True) if run[0] < run[1]]
    if len(runs) == 1:
        return KeyValues(kv.keys[:, runs[0]], kv.values[:, runs[0]], kv.positions[runs[0]])
    keys, values = (torch.cat([part[:, run] for run in runs], dim=1) for part in (kv.keys, kv.values))
    return KeyValues(keys, values, torch.cat([kv.positions[run] for run in runs]))
