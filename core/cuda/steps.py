"""Passes of a few rows, made once for each number of rows and bucket of cache length, and repeated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.attention.mask import Pattern
from core.cuda.graph import repeated
from core.cuda.model import DeviceDecoder
from core.cuda.span import Span
from core.cuda.store import Store
from core.decoder.probe import Probe


class Steps:
    """Of one decoder. A step reads its tokens and its place from the store, so that nothing of it depends on the host."""

    def __init__(self, decoder: DeviceDecoder, device: torch.device) -> None:
        self.decoder, self.device = decoder, device

    def repeat(self, store: Store, rows: int, end: int, patterns: Sequence[Pattern]) -> Tensor:
        """Logits [B · rows, V] of the store's first `rows` tokens, the last of them at position end − 1.

        They stay until the next step of this store. Also leaves in `store.next` what is likeliest after each row.
        """
        slots = store.slots(end)
        made_for = rows, slots, tuple(patterns)
        if made_for not in store.steps:
            store.steps[made_for] = repeated(lambda: self.once(store, rows, slots, patterns, Probe()), self.device)
        logits: Tensor = store.steps[made_for]()
        return logits

    def once(self, store: Store, rows: int, slots: int, patterns: Sequence[Pattern], probe: Probe) -> Tensor:
        """The same, computed now and shown to `probe`; attention looks at the first `slots` slots."""
        tokens = store.tokens[:, :rows]
        span = Span(store.length + store.places[:rows], slots, last=False)
        hidden = self.decoder.hidden(tokens, store, span, patterns, probe)
        logits = self.decoder.logits(hidden, probe)
        store.next[:, :rows] = logits.argmax(dim=-1).view(tokens.shape)
        return logits

    def go_on(self, store: Store) -> None:
        """Let the likeliest token after a step of one row be the next step's, without a word from the host."""
        store.tokens[:, :1] = store.next[:, :1]
        store.length += 1
