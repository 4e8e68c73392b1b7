"""One sequence on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.attention.mask import Pattern
from core.cache.base import Held, Layout
from core.cuda.kernels import MOST_ROWS
from core.cuda.marks import MarkingProbe, mark_on
from core.cuda.span import Span
from core.cuda.steps import Steps
from core.cuda.store import Resident, Store, Stores, bucket
from core.decoder.probe import Probe
from core.engine.backend import Session
from core.engine.passes import MOST_VERIFIED, Passes
from core.errors import BadInput
from core.events import CacheChanged


@dataclass(frozen=True)
class Room:
    """The cache's policy. most: tokens that it may hold. whole: room for them is taken before the run, else as they come.

    kind: where they are kept.
    """

    most: int
    whole: bool
    kind: type[Store] = Resident


class DeviceSession(Session):
    """Prompts in passes of many rows, steps and what verifies drafts in passes of up to eight."""

    def __init__(
        self, steps: Steps, stores: Stores, layout: Layout, room: Room, patterns: Sequence[Pattern], probe: Probe
    ) -> None:
        self.steps, self.stores, self.layout, self.room = steps, stores, layout, room
        self.patterns, self.probe = tuple(patterns), probe
        self._store = self._taken(room.most) if room.whole else None
        self._length = 0

    def forward(self, tokens: Sequence[int], all_logits: bool = False) -> Tensor:
        with torch.inference_mode():
            store = self._roomy(self._length + len(tokens))
            if len(tokens) <= (MOST_VERIFIED if all_logits else MOST_ROWS):
                return self._stepped(store, tokens, all_logits)
            return self._prompt(store, tokens, all_logits)

    def _stepped(self, store: Store, tokens: Sequence[int], all_logits: bool) -> Tensor:
        logits, passes = [], Passes(self.probe)
        for first in range(0, len(tokens), MOST_ROWS):
            logits.append(self._step(store, tokens[first : first + MOST_ROWS]))
            passes.add()
        passes.give_back()
        return torch.cat(logits) if all_logits else logits[-1][-1:]

    def _step(self, store: Store, tokens: Sequence[int]) -> Tensor:
        rows, end = len(tokens), self._length + len(tokens)
        store.tokens[:, :rows] = torch.tensor(tokens).to(store.tokens.device)
        store.length.fill_(self._length)
        store.begin(self._length, rows)
        self._length = end
        inspected = bool(self.probe.attention_layers)
        if store.replayed and not inspected:
            return self.steps.repeat(store, rows, end, self.patterns).to("cpu", copy=True)
        marking = MarkingProbe(self.probe, mark_on(store.tokens.device))
        logits = self.steps.once(store, rows, end if inspected else store.slots(end), self.patterns, marking).cpu()
        marking.settle()
        return logits

    def _prompt(self, store: Store, tokens: Sequence[int], all_logits: bool) -> Tensor:
        device, first, end = store.tokens.device, self._length, self._length + len(tokens)
        marking = MarkingProbe(self.probe, mark_on(device))
        span = Span(torch.arange(first, end, device=device), end, last=True)
        fed = torch.tensor([tokens], device=device)
        store.begin(first, len(tokens))
        hidden = self.steps.decoder.hidden(fed, store, span, self.patterns, marking)
        logits = self.steps.decoder.logits(hidden if all_logits else hidden[-1:], marking).cpu()
        marking.settle()
        self._length = end
        return logits

    def _roomy(self, needed: int) -> Store:
        """A store that holds `needed` tokens, with what was there."""
        if self.room.whole and needed > self.room.most:
            raise BadInput(
                f"cache.capacity: the static cache holds {self.room.most} tokens and the run needs {needed}; "
                "raise cache.capacity, or set it to 0 to take what the run needs"
            )
        old = self._store
        if old is None or old.capacity < needed:
            self._store = self._taken(needed)
            if old is not None:
                self._store.copy(old, self._length)
                old.give_up()
        assert self._store is not None
        return self._store

    def _taken(self, tokens: int) -> Store:
        return self.stores.take(self, self.layout, bucket(tokens), kind=self.room.kind)

    def held(self, step: int) -> CacheChanged:
        now = Held.alike(torch.arange(self._length), 8.0 * self.layout.dtype.itemsize)
        elsewhere = self.layout.token_nbytes * self._length if self._store is not None and self._store.offloaded else 0
        return CacheChanged(step, self._length, now.positions, now.layers, now.bits, now.blocks, now.block_size, elsewhere, "")

    @property
    def length(self) -> int:
        return self._length

    def trim(self, length: int) -> None:
        self._length = min(length, self._length)

    @property
    def kv_bytes(self) -> int:
        return 0 if self._store is None else self._store.nbytes

    @property
    def kv_tokens(self) -> int:
        return self._length

    @property
    def kv_read(self) -> int:
        return self.layout.token_nbytes * self._length
