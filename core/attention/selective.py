"""Softmax attention over the keys that a technique lets through, whatever the cache holds and wants to know."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.attention.mask import Reach
from core.attention.mechanism import Mechanism, Rows, Site, Store
from core.attention.scores import adapted, by_position, scores_of, visible, weights_of
from core.attention.showing import stacked
from core.cache.base import KeyValues
from core.decoder.probe import Shown


@dataclass(frozen=True, eq=False)
class Look:
    """Some queries [T, H, D] and what they may look at.

    q: as the layer made them. turned: as the keys of `kv` are to be multiplied with. held: what they could see without the
    technique: what the cache still has of what the layer was trained to see.
    """

    q: Tensor
    turned: Tensor
    positions: Tensor
    kv: KeyValues
    held: Reach

    def part(self, rows: Tensor | slice) -> Look:
        """Some of the queries, in order; and only the keys before the last of them, where they come first."""
        positions, kv = self.positions[rows], self.kv
        end = int(positions[-1]) + 1
        if self.plain and int(kv.positions[:end].max()) < end:
            kv = replace(kv, keys=kv.keys[:, :end], values=kv.values[:, :end], positions=kv.positions[:end])
        return replace(self, q=self.q[rows], turned=self.turned[rows], positions=positions, kv=kv)

    @property
    def reached(self) -> Tensor:
        """What is held: bool [T, S], or [G, T, S] where KV heads differ."""
        return visible(self.held, self.positions, self.kv)

    @property
    def plain(self) -> bool:
        """Whether every token so far is there, once, for all heads."""
        kv, end = self.kv, int(self.positions[-1]) + 1
        return kv.positions.shape == (end,) and kv.versions is None and self.held == Reach()


class Selective(Mechanism):
    """Subclasses say which keys are seen, and attend to them."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._own = Reach(0, site.window)

    def take(self, k: Tensor, positions: Tensor) -> None:
        """New keys [T, G, D] come, before any query looks."""

    @abstractmethod
    def attended(self, look: Look, rows: Rows) -> Tensor:
        """Attention [T, H, D] float32 of all queries of `rows`."""

    @abstractmethod
    def seen(self, look: Look) -> Tensor:
        """Which slots the technique lets through: bool [T, S], [G, T, S] or [H, T, S]."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, store: Store, rows: Rows) -> Tensor:
        self.take(store.of_pass(k, v, rows.positions)[0], rows.positions)
        if store.cache.observes:
            return self._observed(q, k, v, store, rows)
        look = self._look(q, store.update(k, v), rows.positions, store)
        y = self.attended(look, rows)
        if rows.shown(self.site.layer):
            rows.probe.lap("attention")
            rows.probe.attention(self.site.layer, *self._shown(look.part(slice(-rows.probe.attention_rows, None))))
            rows.probe.lap("capture")
        return y

    def _observed(self, q: Tensor, k: Tensor, v: Tensor, store: Store, rows: Rows) -> Tensor:
        """Over a cache that is told what each part of the rows looked at before the next one looks."""
        found, shown = [], []

        def weigh(q: Tensor, kv: KeyValues, positions: Tensor) -> Tensor:
            return self._weights(self._look(q, kv, positions, store))[0]

        for part in store.cache.parts(len(q)):
            kv, own = store.update(k[part], v[part]), Rows(rows.positions[part], rows.probe)
            look = self._look(q[part], kv, own.positions, store)
            found.append(self.attended(look, own))
            store.cache.observe(store.layer, q[part], kv, own.positions, weigh)
            if rows.shown(self.site.layer):
                shown.append(self._shown(look))
        if shown:
            rows.probe.attention(self.site.layer, *stacked(shown))
        return torch.cat(found)

    def _look(self, q: Tensor, kv: KeyValues, positions: Tensor, store: Store) -> Look:
        return Look(q, adapted(q, kv), positions, kv, self._own & store.reach)

    def _shown(self, look: Look) -> Shown:
        return by_position(*self._weights(look), look.kv)

    def _weights(self, look: Look) -> tuple[Tensor, Tensor | None]:
        """Softmax weights [H, T, S] and the attention mass kept."""
        return weights_of(scores_of(look.turned, look.kv, self.site), look.reached, self.seen(look))
