"""Linear attention: a state of constant size for older keys, softmax for the first and the latest ones, one normalisation.

A weight is exp(q·k·scale) for a key that is kept and φ(q)·φ(k) for one that is not; both are divided by the sum of all.
Positions are in the rotated queries and keys, which the feature maps act on.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from core.attention.features import FeatureMap, FeatureState, kernel
from core.attention.grouped import grouped, scores, ungrouped
from core.attention.history import History
from core.attention.linear_step import attend_row
from core.attention.mechanism import Mechanism, Rows, Site, Store
from core.attention.recent import Recent
from core.attention.softmax import Softmax
from core.attention.states import BLOCK, linear_room
from core.errors import RunFailed


class LinearAttention(Mechanism):
    """Softmax over the first `sinks` keys and the last `window` before and with each query, `features` for those between.

    Keys enter the state when no query to come has them in its window. Those of the last pass (of its last 64 rows, if it is
    longer) are kept as they are until then, so that the pass can be taken back.
    """

    stores = False

    def __init__(self, site: Site, features: FeatureMap, window: int, sinks: int) -> None:
        super().__init__(site)
        self.features, self.window, self.sinks = features, window, sinks
        self.behind = max(window, 1) - 1  # tokens before a query that it sees by softmax, besides the sinks
        self._restart()

    def _restart(self) -> None:
        self.recent = Recent(self.site, (self.site.kv_heads,) * 2, self.sinks, linear_room(self.window))
        self.state = FeatureState(self.site, self.features.count)
        self.length, self.entered = 0, self.sinks  # tokens seen; tokens that are sinks or in the state
        self.history = History()

    def attend(self, q: Tensor, k: Tensor, v: Tensor, store: Store, rows: Rows) -> Tensor:
        if int(rows.positions[0]) == 0:
            self._restart()
        if len(q) == 1 and self.window:
            y = self._row(q, k, v)
        else:
            first = self.length
            blocks = zip(torch.split(q, BLOCK), torch.split(k, BLOCK), torch.split(v, BLOCK), strict=True)
            y = torch.cat([self._block(*block, BLOCK if self.length > first else 0) for block in blocks])
        self.history.show(self, q, k, rows)
        return y

    def _take(self, k: Tensor, v: Tensor, kept: int) -> None:
        """Keep k and v [T, G, D], and let what no query of theirs needs into the state, but for `kept` tokens more."""
        self._enter(self.length - self.behind - kept)
        self.recent.write(self.length, k, v)
        self.length += len(k)

    def _enter(self, end: int) -> None:
        """Let the keys before `end` into the state."""
        if end > self.entered:
            keys, values = self.recent.at(self.entered, end)
            self.state.add(self.features.keys(keys), values)
            self.entered = end

    def _row(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of one row [1, H, D], for which no key waits between its window and the state."""
        self._take(k, v, 0)
        queries = grouped(q, self.site.kv_heads)
        logs, (keys, values) = self.features.queries(queries), (part.float().numpy() for part in self.recent.parts)
        rows = (queries * self.site.scale)[:, :, 0].numpy(), logs[:, :, 0].numpy(), keys, values
        out = torch.empty(queries[:, :, 0].shape)  # [G, J, D]
        sees = self.recent.positions.numpy(), max(0, self.length - self.window), self.sinks
        attend_row(*rows, *sees, self.site.cap, *self.state.arrays(), out.numpy())
        return out.flatten(0, 1)[None]

    def _block(self, q: Tensor, k: Tensor, v: Tensor, kept: int) -> Tensor:
        """Attention of a few rows [T, H, D], after which the `kept` tokens before them can still be taken back."""
        positions = torch.arange(self.length, self.length + len(q))
        self._take(k, v, kept)
        queries = grouped(q, self.site.kv_heads)
        logs = self.features.queries(queries)
        logits, values = self._visible(queries, logs, positions)
        mass, mean = self.state.read(logs)
        weights = torch.cat((logits, mass[..., None]), dim=-1).softmax(-1)
        return ungrouped(weights[..., :-1] @ values[:, None] + weights[..., -1:] * mean)

    def _visible(self, queries: Tensor, logs: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [G, J, T, S] of keys that are not in the state, and their values [G, S, D]."""
        held, (keys, values) = self.recent.positions, (part.float() for part in self.recent.parts)
        near = self.near(positions, held) & (held >= 0)
        logits = scores(queries, keys, self.site).masked_fill(~near, -torch.inf)
        waiting = ((held >= self.entered) & (held <= self.length - 1 - self.window)).nonzero()[:, 0]
        if len(waiting) == 0:
            return logits, values
        far = self.far(positions, held[waiting])
        older = kernel(logs, self.features.keys(keys[:, waiting])).masked_fill(~far, -torch.inf)
        return torch.cat((logits, older), dim=-1), torch.cat((values, values[:, waiting]), dim=1)

    def near(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Which keys [S] queries [T] see by softmax, [T, S]."""
        distance = queries[:, None] - keys
        return (distance >= 0) & ((distance < self.window) | (keys < self.sinks))

    def far(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Which keys they see by features."""
        distance = queries[:, None] - keys
        return (distance >= self.window) & (keys >= self.sinks)

    def implied(self, q: Tensor, keys: Tensor, positions: Tensor) -> Tensor:
        """The weight [H, T, S] of each of all keys [S, G, D] so far for q [T, H, D] at `positions`."""
        queries, keys = grouped(q, self.site.kv_heads), keys.to(self.site.dtype).float().transpose(0, 1)
        older = kernel(self.features.queries(queries), self.features.keys(keys))
        places = torch.arange(keys.shape[1])
        logits = older.masked_fill(~self.far(positions, places), -torch.inf)
        logits = torch.where(self.near(positions, places), scores(queries, keys, self.site), logits)
        return logits.softmax(-1).flatten(0, 1)

    def trim(self, length: int) -> None:
        """Raises RunFailed where tokens in the state would have to come out of it."""
        if length == 0:
            self._restart()
        elif self.entered > self.sinks and length < min(self.length, self.entered + self.behind):
            raise RunFailed(
                f"layer {self.site.layer}: the state of linear attention cannot go back from {self.length} tokens to {length}: "
                "keys that would be in the window again are already summed"
            )
        self.recent.forget(length)
        self.history.trim(length)
        self.length = min(self.length, length)

    @property
    def tokens(self) -> int:
        return self.recent.tokens

    @property
    def nbytes(self) -> int:
        """Of the state and of what is kept as it is; keys that are kept for the sake of a capture are not counted."""
        return self.recent.nbytes + self.state.nbytes


def linear_attention(site: Site, features: Callable[[], FeatureMap], window: int, sinks: int) -> Mechanism:
    """A layer that the model trained with a sliding window keeps it: its state would hold what it never saw."""
    return Softmax(site) if site.window is not None else LinearAttention(site, features(), window, sinks)
