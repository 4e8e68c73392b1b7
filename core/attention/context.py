"""What the tokens of a run left behind: its cache, and each layer's way to look at it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.attention.mechanism import Expand, Mechanism, Rows, Store
from core.cache.base import Cache
from core.decoder.probe import Probe


class Context:
    """One sequence. A pass asks for its `rows`, attends layer by layer, and then calls `advance`."""

    def __init__(self, cache: Cache, mechanisms: Sequence[Mechanism], expansions: Sequence[Expand | None] = ()) -> None:
        """expansions: for each layer what makes keys and values of what it caches, None where it caches themselves."""
        self.cache, self.mechanisms = cache, tuple(mechanisms)
        expansions = expansions or [None] * len(self.mechanisms)
        self.stores = tuple(Store(cache, layer, expand) for layer, expand in enumerate(expansions))

    @property
    def length(self) -> int:
        """Tokens seen: the position of the next one."""
        return self.cache.length

    @property
    def is_plain(self) -> bool:
        """Whether the attention of every layer is softmax over a Reach and nothing more."""
        return all(mechanism.reach is not None for mechanism in self.mechanisms)

    def rows(self, count: int, probe: Probe) -> Rows:
        """The next `count` tokens."""
        return Rows(torch.arange(self.length, self.length + count), probe)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rows: Rows) -> Tensor:
        """Attention of q [T, H, D] in `layer`; k and v [T, G, D] (or a latent) are kept. Returns [T, H, D] float32."""
        mechanism, store = self.mechanisms[layer], self.stores[layer]
        if not mechanism.stores:
            k, v = store.of_pass(k, v, rows.positions)
        return mechanism.attend(q, k, v, store, rows)

    def advance(self, count: int) -> None:
        """The pass is over: `count` tokens were added to every layer."""
        self.cache.advance(count)

    @property
    def rewindable(self) -> bool:
        return self.cache.rewindable and all(mechanism.rewindable for mechanism in self.mechanisms)

    def trim(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        self.cache.trim(length)
        for mechanism in self.mechanisms:
            mechanism.trim(length)

    @property
    def tokens(self) -> int:
        """Tokens whose keys and values are held: in the cache or, where no layer uses it, by the attention itself."""
        used = any(mechanism.stores for mechanism in self.mechanisms)
        return self.cache.tokens if used else max(mechanism.tokens for mechanism in self.mechanisms)

    @property
    def nbytes(self) -> int:
        """Bytes held for keys, values and states."""
        return self.cache.nbytes + self._state_nbytes

    @property
    def read_nbytes(self) -> int:
        """Bytes of them that a step reads: those of the held tokens, without room for more."""
        return self.cache.read_nbytes + self._state_nbytes

    @property
    def _state_nbytes(self) -> int:
        return sum(mechanism.nbytes for mechanism in self.mechanisms)
