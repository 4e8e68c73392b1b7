"""A cache that condenses the prompt, once it is whole, to what its last tokens look at (SnapKV)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.attention.mask import Reach
from core.cache.base import Buffers, Cache, Held, KeyValues, Layout, Slots, Weigh
from core.cache.dynamic import Dynamic
from core.cache.shares import of_all
from core.cache.table import SnapKVOptions
from core.errors import RunFailed
from core.technique import NoOptions


@dataclass
class _Window:
    """The last queries of the prompt in a layer [≤ window, H, D], and how they are weighed."""

    q: Tensor
    weigh: Weigh


class SnapKV(Cache):
    """Every head keeps `budget` tokens of the prompt: its last ones, and of the others those with the highest weights.

    The weights of the last `window` queries, summed over them and over the query heads that share a KV head, are taken for
    the highest among `kernel` neighbours. Where that leaves no room for others, the window is half of the budget. The prompt
    is computed as with every token kept, and new tokens are all kept.
    """

    observes = by_head = True
    drops = "the end of the prompt looked at others"

    def __init__(self, options: SnapKVOptions, layout: Layout) -> None:
        super().__init__(options, layout)
        self.options = options
        self.whole: Dynamic | None = Dynamic(NoOptions(), layout)  # the prompt, until it is condensed
        self.windows: dict[int, _Window] = {}
        self.prompt = self.kept = 0

    def update(self, layer: int, k: Tensor, v: Tensor) -> KeyValues:
        if self.whole is not None:
            return self.whole.update(layer, k, v)
        start = self._slot(self.length)
        self._make_room(start + len(k))
        self.buffers.write(layer, start, k, v)
        keys, values, end = self.buffers.keys[layer], self.buffers.values[layer], start + len(k)
        return KeyValues(keys[:, :end], values[:, :end], self.positions[layer][:, :end])

    def observe(self, layer: int, q: Tensor, kv: KeyValues, positions: Tensor, weigh: Weigh) -> None:
        if self.whole is not None:
            before = [self.windows[layer].q] if layer in self.windows else []
            self.windows[layer] = _Window(torch.cat((*before, q))[-self.options.window :].clone(), weigh)

    def end_prompt(self) -> None:
        if self.whole is None:
            return
        whole, self.whole, self.prompt = self.whole, None, self.length
        budget = of_all(self.options.budget, self.prompt)
        window = min(self.options.window, max(1, budget // 2))
        self.kept = min(budget, self.prompt)
        self.observes = False
        self.buffers = Buffers(self.layout, max(self.kept, self._slot(self.layout.tokens)))
        self.positions = [torch.zeros(heads, 0, dtype=torch.long) for heads in self.layout.kv_heads]
        for layer, heads in enumerate(self.layout.kv_heads):
            if heads:
                self._condense(layer, whole, window)
        self.windows.clear()

    def _condense(self, layer: int, whole: Dynamic, window: int) -> None:
        k, v = (part[layer][:, : self.prompt] for part in (whole.buffers.keys, whole.buffers.values))
        kept = torch.arange(self.prompt).expand(len(k), -1)  # [G, kept]
        if self.kept < self.prompt:
            order = self._scores(layer, KeyValues(k, v, kept[0]), window).argsort(dim=1, descending=True, stable=True)
            found = order[:, : self.kept - window].sort().values  # of equal ones, which neighbours are, the first
            kept = torch.cat((found, kept[:, self.prompt - window :]), dim=1)
        new = torch.arange(self.prompt, self.prompt + self.buffers.capacity - self.kept).expand(len(k), -1)
        self.positions[layer] = torch.cat((kept, new), dim=1)
        for buffer, part in ((self.buffers.keys, k), (self.buffers.values, v)):
            buffer[layer][:, : self.kept] = part.gather(1, kept[..., None].expand(-1, -1, part.shape[-1]))

    def _scores(self, layer: int, kv: KeyValues, window: int) -> Tensor:
        """What counts for each token before the window, [G, S − window]."""
        seen = self.windows[layer]
        q = seen.q[-window:]
        weights = seen.weigh(q, kv, torch.arange(self.prompt - len(q), self.prompt)).sum(1)  # [H, S]
        scores = weights.view(len(kv.keys), -1, self.prompt).sum(1)[:, : self.prompt - window]
        kernel = self.options.kernel
        padded = torch.nn.functional.pad(scores, ((kernel - 1) // 2, kernel // 2), value=-torch.inf)
        return padded.unfold(1, kernel, 1).amax(-1)

    def _slot(self, position: int) -> int:
        """Where a token after the prompt stands."""
        return self.kept + position - self.prompt

    def _make_room(self, needed: int) -> None:
        if needed > self.buffers.capacity:
            before = self.buffers.capacity
            self.buffers.resize(max(needed, 2 * before))
            more = torch.arange(before, self.buffers.capacity) - self.kept + self.prompt
            self.positions = [torch.cat((held, more.expand(len(held), -1)), dim=1) for held in self.positions]

    def slots(self, rows: int, reaches: Sequence[Reach]) -> Slots | None:
        if self.whole is not None or self.layout.dtype == torch.float16 or any(reach.window is not None for reach in reaches):
            return None
        first = self._slot(self.length)
        self._make_room(first + rows)
        return Slots(first, first, self.buffers, torch.arange(first + rows))

    def advance(self, count: int) -> None:
        super().advance(count)
        if self.whole is not None:
            self.whole.advance(count)

    def trim(self, length: int) -> None:
        if self.whole is None and length < self.prompt:
            raise RunFailed(
                f"the snapkv cache cannot go back to {length} tokens: it has condensed the {self.prompt} of the prompt; "
                "use cache.name=dynamic"
            )
        self.length = min(self.length, length)
        if self.whole is not None:
            self.whole.trim(length)
            self.windows.clear()

    def held(self) -> Held:
        if self.whole is not None:
            return super().held()
        return Held.by_head([part[:, : self.tokens] for part in self.positions], self.number_bits)

    @property
    def nbytes(self) -> int:
        return self.buffers.nbytes if self.whole is None else self.whole.nbytes

    @property
    def tokens(self) -> int:
        return self._slot(self.length) if self.whole is None else self.length
