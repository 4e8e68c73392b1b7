"""Attention to past blocks through a few rows each, and to the first tokens and the latest blocks as they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from core.attention.grouped import grouped, scores, ungrouped
from core.attention.history import History
from core.attention.mechanism import Mechanism, Rows, Site, Store
from core.attention.recent import Recent
from core.attention.softmax import Softmax
from core.attention.states import block_of, compressed_room
from core.errors import RunFailed


@dataclass(frozen=True)
class Digest:
    """R rows in place of the n tokens of a block, or those of several blocks.

    A row's logit is q·key·scale + log. keys [G, R, D], logs [G, J or 1, R] float32, values [G, J or 1, R, D].
    """

    keys: Tensor
    logs: Tensor
    values: Tensor

    def first(self, rows: int) -> Digest:
        return Digest(self.keys[:, :rows], self.logs[..., :rows], self.values[:, :, :rows])

    def followed_by(self, other: Digest) -> Digest:
        """The rows of both, in this one's number format."""
        values = torch.cat((self.values, other.values.to(self.values.dtype)), dim=2)
        return Digest(
            torch.cat((self.keys, other.keys.to(self.keys.dtype)), dim=1), torch.cat((self.logs, other.logs), dim=2), values
        )

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.logs.nbytes + self.values.nbytes


class Compressor(Protocol):
    """rows: R of a block. queried: whether the queries of a block are needed to compress it."""

    rows: int
    queried: bool

    def digest(self, parts: list[Tensor], site: Site) -> tuple[Digest, Tensor]:
        """Of a block's keys and values [G, n, D] and, where asked for, its queries [H, n, D], all float32.

        Also [G, J or 1, R, n]: the share that each token has in the value of each row.
        """


class BlockAttention(Mechanism):
    """Softmax over the first `sinks` keys, the keys of the query's own block and of the `local` ones before it, and the rows
    that stand for each earlier block.

    The keys of the last 64 tokens and of what they see exactly are kept, so that so many can be taken back.
    """

    stores = False

    def __init__(self, site: Site, compressor: Compressor, block: int, local: int, sinks: int) -> None:
        super().__init__(site)
        self.compressor, self.block, self.local, self.sinks = compressor, block, local, sinks
        self._restart()

    def _restart(self) -> None:
        G = self.site.kv_heads
        heads = (G, G, self.site.query_heads) if self.compressor.queried else (G, G)
        self.recent = Recent(self.site, heads, self.sinks, compressed_room(self.block, self.local))
        self.past = _nothing(self.site, self.compressor.queried)
        self.spread: list[Tensor] = []  # of each compressed block, where attention is captured
        self.length, self.most = 0, 0  # tokens seen, and the most that ever were
        self.history = History()

    @property
    def blocks(self) -> int:
        """Blocks that are compressed."""
        return self.past.keys.shape[1] // self.compressor.rows

    def attend(self, q: Tensor, k: Tensor, v: Tensor, store: Store, rows: Rows) -> Tensor:
        if int(rows.positions[0]) == 0:
            self._restart()
        self._captured = self.site.layer in rows.probe.inspected
        sizes = list(self._sizes(len(q)))
        y = torch.cat([self._part(*part) for part in zip(*(torch.split(part, sizes) for part in (q, k, v)), strict=True)])
        self.history.show(self, q, k, rows)
        return y

    def _sizes(self, count: int) -> Iterator[int]:
        """The next `count` rows in runs of one block."""
        first, last = self.length, self.length + count
        while first < last:
            end = min(last, self._first(block_of(first, self.sinks, self.block) + 1))
            yield end - first
            first = end

    def _first(self, block: int) -> int:
        """The position where a block begins."""
        return self.sinks + block * self.block

    def _part(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of rows [T, H, D] of one block."""
        positions = torch.arange(self.length, self.length + len(q))
        local = block_of(self.length, self.sinks, self.block) - self.local
        while self.blocks < local:
            self._compress(self.blocks)
        self.recent.write(self.length, *((k, v, q) if self.compressor.queried else (k, v)))
        self.length += len(q)
        self.most = max(self.most, self.length)
        queries, held = grouped(q, self.site.kv_heads), self.recent.positions
        keys, values = (part.float() for part in self.recent.parts[:2])
        near = self._near(positions, held) & (held >= 0)
        logits = scores(queries, keys, self.site).masked_fill(~near, -torch.inf)
        weights = torch.cat((logits, self._far(queries)), dim=-1).softmax(-1)
        exact, compressed = weights[..., : len(held)], weights[..., len(held) :]
        return ungrouped(exact @ values[:, None] + compressed @ self.past.values.float())

    def _compress(self, block: int) -> None:
        parts = self.recent.at(self._first(block), self._first(block + 1))
        new, spread = self.compressor.digest(parts, self.site)
        self.past = self.past.followed_by(new)
        if self._captured:
            self.spread.append(spread)

    def _far(self, queries: Tensor) -> Tensor:
        """Logits [G, J, T, R] of the rows of all compressed blocks."""
        return scores(queries, self.past.keys, self.site) + self.past.logs[:, :, None]

    def _near(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Which keys [S] queries [T] see as they are, [T, S]."""
        start: Tensor = self.sinks + self.block * (block_of(queries, self.sinks, self.block) - self.local)
        return (keys <= queries[:, None]) & ((keys >= start[:, None]) | (keys < self.sinks))

    def implied(self, q: Tensor, keys: Tensor, positions: Tensor) -> Tensor:
        """The weight [H, T, S] of each of all keys [S, G, D] so far for q [T, H, D] at `positions`."""
        queries, keys = grouped(q, self.site.kv_heads), keys.to(self.site.dtype).float().transpose(0, 1)
        near = self._near(positions, torch.arange(keys.shape[1]))
        logits = scores(queries, keys, self.site).masked_fill(~near, -torch.inf)
        local = block_of(positions, self.sinks, self.block) - self.local
        seen = torch.arange(self.blocks).repeat_interleave(self.compressor.rows) < local[:, None]  # [T, R]
        weights = torch.cat((logits, self._far(queries).masked_fill(~seen, -torch.inf)), dim=-1).softmax(-1)
        found, compressed = weights[..., : keys.shape[1]], weights[..., keys.shape[1] :]
        rows = self.compressor.rows
        for block, spread in enumerate(self.spread):
            share = compressed[..., block * rows : (block + 1) * rows]
            found[..., self._first(block) : self._first(block + 1)] += share @ spread
        return found.flatten(0, 1)

    def trim(self, length: int) -> None:
        """Raises RunFailed where keys that would be seen exactly again are gone."""
        if length == 0:
            self._restart()
        if length >= self.length:
            return
        blocks = max(0, block_of(length, self.sinks, self.block) - self.local)
        if self._first(blocks) < self.most - self.recent.room:
            raise RunFailed(
                f"layer {self.site.layer}: compressed attention cannot go back from {self.length} tokens to {length}: "
                "keys that would be seen as they are again are compressed"
            )
        self.past = self.past.first(min(blocks, self.blocks) * self.compressor.rows)
        del self.spread[blocks:]
        self.recent.forget(length)
        self.history.trim(length)
        self.length = length

    @property
    def tokens(self) -> int:
        return self.recent.tokens

    @property
    def nbytes(self) -> int:
        """Of what is kept as it is and of the rows; keys that are kept for the sake of a capture are not counted."""
        return self.recent.nbytes + self.past.nbytes


def _nothing(site: Site, queried: bool) -> Digest:
    """The rows of no block; values differ among query heads where queries had a part in them."""
    G, D, J = site.kv_heads, site.head_size, site.query_heads // site.kv_heads if queried else 1
    keys, values = torch.empty(G, 0, D, dtype=site.dtype), torch.empty(G, J, 0, D, dtype=site.dtype)
    return Digest(keys, torch.empty(G, J, 0), values)


def block_attention(site: Site, compressor: Compressor, block: int, local: int, sinks: int) -> Mechanism:
    """A layer that the model trained with a sliding window keeps it."""
    return Softmax(site) if site.window is not None else BlockAttention(site, compressor, block, local, sinks)
