"""What a run shows of the model at work when inspected: attention and expert routing.

Notation: H heads, T query rows, S keys, K active experts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from core.decoder.probe import Shown
from core.engine.watch import Watch
from core.events import AttentionCaptured, CaptureEnded, Inspect, RoutingCaptured
from core.models.info import ModelInfo

_PROMPT_SHARE = 0.5  # of the capture budget; the rest is for decoding


class Recorder:
    """Turns what the probe received in a pass into events, within the budget of `inspect`."""

    def __init__(self, inspect: Inspect, watch: Watch, info: ModelInfo, prompt: int) -> None:
        self._watch = watch
        self._budget = inspect.budget
        self._layers = watch.attention_layers
        # Each prompt row costs H × S half floats in every captured layer: keep only rows that the budget's share holds.
        row = max(1, info.query_heads * prompt * 2 * len(self._layers))
        self._first_row = prompt - min(prompt, inspect.rows, int(inspect.budget * _PROMPT_SHARE) // row)
        self._left = inspect.budget

    @property
    def active(self) -> bool:
        """Whether there is anything to record."""
        return bool(self._layers) or self._watch.routing

    def expect(self, first: int, fed: int) -> None:
        """Before a pass of `fed` tokens from position `first`: say which rows of attention are worth computing."""
        rows = first + fed - max(first, self._first_row)
        self._watch.attention_layers = self._layers if rows > 0 else frozenset()
        self._watch.attention_rows = max(1, rows)

    def take(self, step: int, first: int, fed: int, kept: int) -> Iterator[AttentionCaptured | RoutingCaptured | CaptureEnded]:
        """Events of a pass that fed `fed` tokens from position `first`, of which the first `kept` were not rejected."""
        yield from self._attention(step, first, fed, kept)
        for layer, (experts, weights, count) in sorted(self._watch.take_routing().items()):
            rows = slice(len(experts) - fed, len(experts) - fed + kept)
            yield RoutingCaptured(step, layer, first, experts[rows].copy(), weights[rows].copy(), count)

    def _attention(self, step: int, first: int, fed: int, kept: int) -> Iterator[AttentionCaptured | CaptureEnded]:
        if not self._layers:
            return
        begin, end = max(first, self._first_row), first + kept
        passes = [
            _map(step, layer, seen, begin - (first + fed), begin, end)
            for layer, seen in sorted(self._watch.take_attention().items())
        ]
        self._left -= sum(captured.weights.nbytes for captured in passes)
        if self._left >= 0:
            yield from passes
            return
        self._layers = self._watch.attention_layers = frozenset()
        yield CaptureEnded(step, f"the capture budget of {self._budget / 2**20:.3g} MiB is spent; attention is no longer kept")


def _map(step: int, layer: int, seen: Shown, row: int, begin: int, end: int) -> AttentionCaptured:
    """Rows from `row` on: queries from position `begin` to `end`, over the keys before `end`, as later ones belonged to
    rejected drafts.
    """
    weights, keys, mass = seen
    rows, held = slice(row, row + end - begin or None), keys < end
    shares = None if mass is None else mass[:, rows].astype(np.float16)
    return AttentionCaptured(step, layer, begin, weights[:, rows, held].astype(np.float16), keys[held].astype(np.int32), shares)
