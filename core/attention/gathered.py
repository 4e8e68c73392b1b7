"""Softmax attention over gathered keys: what a pattern hides is neither read nor computed.

Shapes beyond those of core/decoder: n gathered keys; shared = H / G query heads look at one KV head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.attention.mask import Part, Pattern, Reach, Sparse, within
from core.attention.mechanism import Rows, Site
from core.attention.scores import visible
from core.attention.selective import Look, Selective
from core.cache.base import KeyValues

ROWS = 64  # queries that share what is gathered
_LEAST = -1e30  # logarithm of the sum of no weights


@dataclass(frozen=True)
class Pick:
    """What some query rows [T] look at. slots [n], or [G, n] where KV heads differ; None is every slot of the cache.

    mask: bool, broadcast to [G, shared, T, n]; None where each row sees all of them.
    """

    rows: Tensor
    slots: Tensor | None
    mask: Tensor | None


class Gathered(Selective):
    """Attention over the keys that a pattern lets through. One row gathers what it sees, many what any of 64 see."""

    def __init__(self, site: Site, pattern: Sparse) -> None:
        super().__init__(site)
        self.pattern, self.listed = pattern, within(pattern, self._own)

    def attended(self, look: Look, rows: Rows) -> Tensor:
        name = self.pattern, look.held, look.kv.versions
        return joined(look, rows.once(name, look.kv.positions, lambda: self._picks(look)), self.site)

    def seen(self, look: Look) -> Tensor:
        return visible(self.pattern, look.positions, look.kv)

    def _picks(self, look: Look) -> list[list[Pick]]:
        """Of each part of the pattern; one row sees all parts at once."""
        parts = (Part(self.pattern),) if len(look.positions) == 1 else self.pattern.parts
        return [list(picked(part, look.held, look.positions, look.kv)) for part in parts]


def picked(part: Part, held: Reach, queries: Tensor, kv: KeyValues) -> Iterator[Pick]:
    """For queries at positions [T], those with the same remainder together: the slots of `kv` that they see."""
    order = torch.argsort(queries % part.period, stable=True)
    pattern: Pattern = within(part.pattern, held)
    for rows in torch.split(order, ROWS):
        yield pick(rows, visible(pattern, queries[rows], kv))


def pick(rows: Tensor, allowed: Tensor) -> Pick:
    """What `rows` [T] look at, of allowed [T, S] or [G, T, S]: the slots that any of them sees, and which each sees."""
    allowed = allowed.view(-1, *allowed.shape[-2:])  # [G or 1, T, S]
    union = allowed[:, 0] if len(rows) == 1 else allowed.any(1)  # [G or 1, S]
    if len(union) == 1:
        slots = union[0].nonzero()[:, 0]
        kept = None if len(rows) == 1 else allowed[:, :, slots]
        return Pick(rows, slots, kept if kept is None else kept[:, None])
    counts = union.sum(1)
    slots = torch.argsort(~union, dim=1, stable=True)[:, : int(counts.max())]  # [G, n]; the rest of a shorter one is masked
    if len(rows) == 1 and bool((counts == counts[0]).all()):
        return Pick(rows, slots, None)
    return Pick(rows, slots, allowed.gather(2, slots[:, None].expand(-1, len(rows), -1))[:, None])


def joined(look: Look, parts: Sequence[Sequence[Pick]], site: Site) -> Tensor:
    """Attention over the keys of all parts together; returns [T, H, D] float32."""
    q, kv = look.turned, look.kv
    if len(parts) > 1:
        found = [_together([_part(q[one.rows], kv, one, site) for one in picks], picks) for picks in parts]
        shares = torch.stack([sums for _, sums in found]).softmax(0)  # [parts, T, H, 1]
        return (torch.stack([y for y, _ in found]) * shares).sum(0)
    picks = parts[0]
    if len(q) == 1:
        return _whole(q, kv, picks[0], site)
    return _together([(_whole(q[one.rows], kv, one, site),) for one in picks], picks)[0]


def _together(found: Sequence[Sequence[Tensor]], picks: Sequence[Pick]) -> list[Tensor]:
    """What was found for the rows of each pick, [T, …] each, in the order of rows."""
    order = torch.argsort(torch.cat([one.rows for one in picks]))
    return [torch.cat(parts)[order] for parts in zip(*found, strict=True)]


def _whole(q: Tensor, kv: KeyValues, one: Pick, site: Site) -> Tensor:
    """Attention [T, H, D] of q [T, H, D] over the picked keys."""
    keys, values = gathered(kv, one.slots)
    scores = scored(q, keys, site)  # [G, shared, T, n]
    if one.mask is not None:
        scores.masked_fill_(~one.mask, -torch.inf)
    return mixed(scores.softmax(-1), values)


def _part(q: Tensor, kv: KeyValues, one: Pick, site: Site) -> tuple[Tensor, Tensor]:
    """As `_whole`, for rows that may see nothing here; and the logarithm of the sum of the weights, [T, H, 1]."""
    keys, values = gathered(kv, one.slots)
    scores = scored(q, keys, site)  # [G, shared, T, n]
    if one.mask is not None:
        scores.masked_fill_(~one.mask, -torch.inf)
    sums = scores.logsumexp(-1, keepdim=True).clamp(min=_LEAST)
    return mixed(scores.sub_(sums).exp_(), values), sums.flatten(0, 1).transpose(0, 1)


def gathered(kv: KeyValues, slots: Tensor | None) -> tuple[Tensor, Tensor]:
    """Keys and values [G, n, D] float32 of `slots`."""
    if slots is None:
        return kv.keys.float(), kv.values.float()
    if slots.ndim == 1:
        return kv.keys[:, slots].float(), kv.values[:, slots].float()
    heads = torch.arange(len(slots))[:, None]
    return kv.keys[heads, slots].float(), kv.values[heads, slots].float()


def scored(q: Tensor, keys: Tensor, site: Site) -> Tensor:
    """Scores [G, shared, T, n] float32 of q [T, H, D] with keys [G, n, D], scaled and capped."""
    (T, H, D), G = q.shape, len(keys)
    rows = (q.float() * site.scale).transpose(0, 1).reshape(G, H // G * T, D)
    scores = rows @ keys.float().mT
    if site.cap:
        scores = site.cap * torch.tanh(scores / site.cap)
    return scores.view(G, H // G, T, keys.shape[1])


def mixed(weights: Tensor, values: Tensor) -> Tensor:
    """Sums [T, H, D] of values [G, n, D] weighted with [G, shared, T, n]."""
    G, shared, T, n = weights.shape
    y = weights.reshape(G, shared * T, n) @ values.float()
    return y.view(G * shared, T, values.shape[2]).transpose(0, 1)
