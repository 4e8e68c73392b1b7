"""Attention of prompts under a sparse pattern by torch's flex attention: blocks that the pattern hides are not computed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from core.attention.mask import Pattern, Reach
from core.cuda.plain import Plain
from core.cuda.span import Span
from core.cuda.store import bucket

_BLOCK = 128  # queries, and slots, that are computed or skipped together; it divides every bucket
_VARIANTS = 256  # of one compiled function: one for each pattern and bucket of queries and slots


class Flexible(Plain):
    """Prompts under a pattern that is no Reach go through flex attention, everything else as in Plain."""

    def attend(self, q: Tensor, keys: Tensor, values: Tensor, span: Span, pattern: Pattern, scale: float, cap: float) -> Tensor:
        if not span.last or isinstance(pattern, Reach):
            return super().attend(q, keys, values, span, pattern, scale, cap)
        rows, slots, shared = q.shape[1], keys.shape[2], q.shape[2] // keys.shape[1]
        # Queries are padded and all slots are given, so that few shapes are compiled.
        queries = torch.nn.functional.pad(q, (0, 0, 0, 0, 0, bucket(rows) - rows)).transpose(1, 2)
        blocks = span.once((pattern, slots, shared), lambda: block_mask(pattern, span.positions, slots, shared))
        settings = {"score_mod": _capped(cap) if cap else None, "block_mask": blocks, "scale": scale, "enable_gqa": shared > 1}
        y: Tensor = _flex(q.device)(queries, keys, values, **settings)
        return y.transpose(1, 2)[:, :rows]


def block_mask(pattern: Pattern, positions: Tensor, slots: int, shared: int) -> BlockMask:
    """What successive `positions` [T], filled up to a bucket, see of `slots`; `shared` query heads look at one KV head.

    Only blocks that are seen in part ask for each pair of query and slot.
    """
    some, every = (part.repeat_interleave(shared if len(part) > 1 else 1, 0) for part in blocks_of(pattern, positions, slots))
    first, rows = positions[0], bucket(len(positions))

    def seen(_batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        allowed: Tensor = pattern.sees(first + query, key, head // shared)
        return allowed

    return BlockMask.from_kv_blocks(
        *_listed(some & ~every, rows), *_listed(every, rows), BLOCK_SIZE=_BLOCK, mask_mod=seen, seq_lengths=(rows, slots)
    )


def blocks_of(pattern: Pattern, positions: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """Which blocks of slots blocks of queries see something of, and all of: bool [G or 1, blocks of T, blocks of slots]."""
    keys, some, every = torch.arange(slots, device=positions.device), [], []
    for queries in torch.split(positions, _BLOCK):
        pairs = pattern.allowed(queries, keys).view(-1, len(queries), slots // _BLOCK, _BLOCK)
        some.append(pairs.any(3).any(1))
        every.append(pairs.all(3).all(1))
    return torch.stack(some, 1), torch.stack(every, 1)


def _listed(blocks: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """How many blocks each block of queries has, [1, heads, blocks of `rows`], and which, first in their list: [1, …, slots].

    Blocks of queries that only fill up have none.
    """
    blocks = torch.nn.functional.pad(blocks, (0, 0, 0, rows // _BLOCK - blocks.shape[1]))[None]
    order = torch.argsort(blocks.int(), dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32), order.int()


def _capped(cap: float) -> Callable[..., Tensor]:
    def capped(score: Tensor, _batch: Tensor, _head: Tensor, _query: Tensor, _key: Tensor) -> Tensor:
        return cap * torch.tanh(score / cap)

    return capped


def _flex(device: torch.device) -> Callable[..., Any]:
    """Compiled on a GPU, where nothing else is fast; as it is on the processor."""
    plain: Callable[..., Any] = flex_attention
    return _compiled if device.type == "cuda" else plain


def _compiled(*arguments: Any, **settings: Any) -> Any:
    with torch._dynamo.config.patch(recompile_limit=_VARIANTS):
        return _compiling()(*arguments, **settings)


@cache
def _compiling() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=False, fullgraph=True)
