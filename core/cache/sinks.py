"""A cache of the first tokens and the most recent ones, at positions counted inside the cache (StreamingLLM)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.attention.mask import Reach
from core.cache.base import KeyValues, Layout, Slots
from core.cache.rolling import Rolling
from core.cache.table import SinksOptions
from core.decoder.rope import RopeTable


@dataclass(frozen=True)
class _Group:
    """Layers that rotate alike, and their sinks' keys [layers, G, sinks, D] float32 as they were when they came."""

    rope: RopeTable
    layers: tuple[int, ...]
    keys: Tensor


class Sinks(Rolling):
    """The first `sinks` tokens stay, the others pass through a ring.

    The query at position p sees sink i as far away as in a text of what is held: p − min(p, sinks + window − 1) + i is the
    place of the sink. Only differences of rotations count, so recent keys stay as they are, and the keys of the sinks are
    turned after the query: in their slots for one row, and for many rows, of which each wants them elsewhere, by queries
    that are turned back, beside the plain ones.
    """

    def __init__(self, options: SinksOptions, layout: Layout) -> None:
        self.sinks = options.sinks
        super().__init__(options, layout)
        self._groups: tuple[_Group, ...] | None = None  # made when the sinks are first turned
        self._moved = 0  # positions that the sinks in their slots are turned by

    @property
    def span(self) -> int:
        return min(self.layout.tokens, self.size)

    def update(self, layer: int, k: Tensor, v: Tensor) -> KeyValues:
        last = self.length + len(k) - 1
        if len(k) == 1:
            self._turn(self._lag(last))
            return super().update(layer, k, v)
        kv = super().update(layer, k, v)
        return self._doubled(layer, kv, len(k)) if self._lag(last) else kv

    def slots(self, rows: int, reaches: Sequence[Reach]) -> Slots | None:
        slots = super().slots(rows, reaches)
        if slots is not None:
            self._turn(self._lag(self.length))
        return slots

    def _lag(self, position: int) -> int:
        """How much nearer than they stand in the text the query at `position` sees the sinks."""
        return max(0, position - self.size + 1)

    def _read(self, layer: int, slots: Tensor) -> tuple[Tensor, Tensor]:
        self._turn(0)
        return super()._read(layer, slots)

    def _turn(self, lag: int) -> None:
        """Put the sinks of every layer into their slots, `lag` positions after where they stand."""
        if lag == self._moved:
            return
        if self._groups is None:
            self._groups = tuple(self._grouped())
        for group in self._groups:
            keys = group.keys.flatten(0, 1) if not lag else group.rope.turned(group.keys.flatten(0, 1), torch.tensor([lag]))
            slots = [self.buffers.keys[layer][:, : self.sinks] for layer in group.layers]
            torch._foreach_copy_(slots, list(keys.view(group.keys.shape).unbind()))
        self._moved = lag

    def _grouped(self) -> list[_Group]:
        alike: dict[tuple[int, torch.Size], list[int]] = {}
        for layer, rope in enumerate(self.layout.ropes):
            if rope is not None and self.layout.kv_heads[layer]:
                alike.setdefault((id(rope), self.buffers.keys[layer].shape), []).append(layer)
        return [_Group(self._rope(layers[0]), tuple(layers), self._own(layers)) for layers in alike.values()]

    def _rope(self, layer: int) -> RopeTable:
        rope = self.layout.ropes[layer]
        assert rope is not None
        return rope

    def _own(self, layers: Sequence[int]) -> Tensor:
        return torch.stack([self.buffers.keys[layer][:, : self.sinks] for layer in layers]).float()

    def _doubled(self, layer: int, kv: KeyValues, rows: int) -> KeyValues:
        """Keys [G, S, 2D]: recent ones in the first half, for queries as they are, sinks in the second, for turned ones."""
        first, rope = self.length, self.layout.ropes[layer] if self.layout.ropes else None
        lags = torch.arange(first, first + rows) - (self.size - 1)
        sink = (kv.positions < self.sinks)[None, :, None]
        keys = torch.cat((kv.keys * ~sink, kv.keys * sink), dim=-1)

        def adapted(q: Tensor) -> Tensor:
            back = q if rope is None else rope.turned(q.float(), -lags.clamp(min=0)[-len(q) :]).to(q.dtype)
            return torch.cat((q, back), dim=-1)

        return KeyValues(keys, kv.values, kv.positions, adapted)
