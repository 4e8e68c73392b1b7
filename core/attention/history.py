"""Every key of a run, kept only where attention is captured: mechanisms with a state would have forgotten them."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from core.attention.mechanism import Rows, Site


class Implied(Protocol):
    """A mechanism whose weights follow from all keys."""

    site: Site

    def implied(self, q: Tensor, keys: Tensor, positions: Tensor) -> Tensor:
        """Weights [H, T, S] of q [T, H, D] at `positions` [T] over keys [S, G, D] at positions 0 … S − 1."""


class History:
    """The keys of one layer, [S, G, D]."""

    def __init__(self) -> None:
        self._keys: list[Tensor] = []

    def show(self, mechanism: Implied, q: Tensor, k: Tensor, rows: Rows) -> None:
        """Take in the k [T, G, D] of a pass, and hand the weights of its q [T, H, D] to the probe if it wants them."""
        layer, probe = mechanism.site.layer, rows.probe
        if layer not in probe.inspected:
            return
        probe.lap("attention")
        self._keys.append(k.clone())
        if rows.shown(layer):
            last = slice(-probe.attention_rows, None)
            keys = torch.cat(self._keys)
            weights = mechanism.implied(q[last], keys, rows.positions[last])
            probe.attention(layer, weights.half().numpy(), torch.arange(len(keys), dtype=torch.int32).numpy())
        probe.lap("capture")

    def trim(self, length: int) -> None:
        """Forget all but the first `length` keys."""
        if self._keys:
            self._keys = [torch.cat(self._keys)[:length]]
