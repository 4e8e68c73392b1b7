"""What the probe is shown of the attention of a layer: weights, and the share of full attention that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from core.attention.mask import Reach
from core.attention.mechanism import Rows, Site
from core.attention.scores import by_position, scores_of, visible
from core.cache.base import KeyValues
from core.decoder.probe import Shown

Sees = Callable[[Tensor, Tensor], Tensor]  # queries [T, H, D] and their positions [T] to bool [T, S], [G, T, S] or [H, T, S]


def show(q: Tensor, kv: KeyValues, rows: Rows, site: Site, held: Reach, sees: Sees) -> None:
    """Hand the weights of q [T, H, D] over `kv` to the probe, where it asked for this layer.

    held: what a query could see without the technique: what the cache still has of what the layer was trained to see.
    """
    if not rows.shown(site.layer):
        return
    rows.probe.lap("attention")
    last = slice(-rows.probe.attention_rows, None)
    queries, positions = q[last], rows.positions[last]
    everything = visible(held, positions, kv, q.shape[1])
    weights, mass = shown_of(queries, kv, site, everything, sees(queries, positions))
    rows.probe.attention(site.layer, *by_position(weights, kv), None if mass is None else mass.numpy())
    rows.probe.lap("capture")


def show_reach(q: Tensor, kv: KeyValues, rows: Rows, site: Site, reach: Reach, held: Reach) -> None:
    """As `show`, where queries see what lies within `reach`, and the cache holds what lies within `held`."""
    held = held & Reach(0, site.window)
    show(q, kv, rows, site, held, lambda _, positions: visible(reach, positions, kv, q.shape[1]))


def shown_of(q: Tensor, kv: KeyValues, site: Site, held: Tensor, seen: Tensor) -> tuple[Tensor, Tensor | None]:
    """Softmax weights [H, T, S] of q [T, H, D] over the keys that are both `held` [T, S] or [H, T, S] and `seen`, which may be
    [G, T, S] too.

    Then the attention mass kept: the share [H, T] of the softmax over all that is held, on what is seen; None where that is
    the same.
    """
    scores = scores_of(q, kv, site)
    seen = _by_head(seen, q.shape[1]) & held
    if torch.equal(seen, held.expand_as(seen)):
        return scores.masked_fill_(~held, -torch.inf).softmax(-1), None
    kept = scores.masked_fill(~seen, -torch.inf)
    return kept.softmax(-1), _mass(scores, held, kept)


def mass_of(q: Tensor, kv: KeyValues, site: Site, held: Tensor, seen: Tensor) -> Tensor:
    """The attention mass kept alone, [H, T], as `shown_of` tells it."""
    scores = scores_of(q, kv, site)
    return _mass(scores, held, scores.masked_fill(~(_by_head(seen, q.shape[1]) & held), -torch.inf))


def _by_head(seen: Tensor, heads: int) -> Tensor:
    """[T, S] or [G or H, T, S] as [1 or H, T, S]."""
    return seen[None] if seen.ndim == 2 else seen.repeat_interleave(heads // len(seen), dim=0)


def _mass(scores: Tensor, held: Tensor, kept: Tensor) -> Tensor:
    return (kept.logsumexp(-1) - scores.masked_fill(~held, -torch.inf).logsumexp(-1)).exp()


def stacked(parts: Sequence[Shown]) -> Shown:
    """Captures of successive rows as one: weights [H, T, S] are widened with zeros to the keys of the last part."""
    keys = parts[-1][1]
    widened = [np.pad(weights, ((0, 0), (0, 0), (0, len(keys) - weights.shape[2]))) for weights, _, _ in parts]
    masses = [np.ones(weights.shape[:2], np.float32) if mass is None else mass for weights, _, mass in parts]
    known = any(mass is not None for _, _, mass in parts)
    return np.concatenate(widened, axis=1), keys, np.concatenate(masses, axis=1) if known else None
