"""Several passes that stand for one: what each showed, put together."""

from __future__ import annotations

import numpy as np

from core.attention.showing import stacked
from core.decoder.probe import Probe, Routes, Shown

MOST_VERIFIED = 1 + 64  # rows of a pass whose logits are all wanted: a token and the most drafts after it


class Passes:
    """Takes from the probe what it received in each pass, and gives it back as that of one pass over all their rows."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._attention: list[dict[int, Shown]] = []
        self._routing: list[dict[int, Routes]] = []

    def add(self) -> None:
        """A pass is over."""
        self._attention.append(self._probe.take_attention())
        self._routing.append(self._probe.take_routing())

    def give_back(self) -> None:
        """All are over."""
        for layer in self._attention[0]:
            self._probe.attention(layer, *stacked([part[layer] for part in self._attention]))
        for layer, (_, _, count) in self._routing[0].items():
            parts = [routes[layer] for routes in self._routing]
            experts, weights = (np.concatenate([part[which] for part in parts]) for which in range(2))
            self._probe.route(layer, experts, weights, count)
