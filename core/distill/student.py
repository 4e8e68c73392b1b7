"""Linear attention in one layer that learns to weigh keys as the trained attention does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.attention.features import kernel
from core.attention.grouped import grouped, scores
from core.attention.linear_learned import PARTS, LearnedFeatures
from core.attention.mechanism import Site
from core.distill.losses import divergence
from core.distill.teacher import Lesson

_EVERY = 7


@dataclass(frozen=True)
class Local:
    """Keys that are seen exactly, and from which nothing is to be learned."""

    window: int
    sinks: int


class Student:
    """Feature maps of the layer at `site`; parameters: what of them is trained."""

    def __init__(self, site: Site, features: LearnedFeatures, local: Local) -> None:
        self.site, self.local = site, local
        self.features = LearnedFeatures(**{name: getattr(features, name).clone().requires_grad_() for name in PARTS})
        self.parameters = [getattr(self.features, name) for name in PARTS]

    def logits(self, lesson: Lesson, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Of the trained attention and of this one, [G, J, T, S], for the queries at `positions` [T] of a lesson."""
        queries = grouped(lesson.q[positions], self.site.kv_heads)
        keys = lesson.k.float().transpose(0, 1)
        distance = positions[:, None] - torch.arange(keys.shape[1])
        exact = (distance < self.local.window) | (torch.arange(keys.shape[1]) < self.local.sinks)
        trained = scores(queries, keys, self.site)
        own = kernel(self.features.queries(queries), self.features.keys(keys))
        both = trained, torch.where(exact, trained, own)
        taught, learned = (logits.masked_fill(distance < 0, -torch.inf) for logits in both)
        return taught, learned

    def divergence(self, lesson: Lesson) -> float:
        """How far this attention is from the trained one in a lesson, in nats a query; some queries are asked."""
        with torch.no_grad():
            positions = torch.arange(self.local.window + self.local.sinks, len(lesson.q), _EVERY)
            return float(divergence(*self.logits(lesson, positions)))
