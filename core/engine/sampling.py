"""Choosing the next token, and verifying drafted ones without changing what would have been chosen.

Notation: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from core.config import Sampling

# Candidates sorted first in the search for the nucleus; all of V is sorted only when they hold too little of the mass.
_FEW = 1024
# Below this temperature every draw is the likeliest token, in float32 as in theory.
_COLDEST = 1e-6


class Sampler:
    """Draws tokens one position at a time, in order, and remembers them for the repetition penalty.

    The order of the filters is transformers': repetition penalty, temperature, top-k, top-p, min-p. Every position
    takes one uniform number from the seeded generator, so a seed gives the same tokens whatever was drafted.
    """

    def __init__(self, options: Sampling, tokens: Sequence[int], vocabulary: int) -> None:
        self.options = options
        self._greedy = options.temperature < _COLDEST
        self._generator = torch.Generator().manual_seed(options.seed)
        self._penalized = options.repetition_penalty != 1.0
        self._seen = torch.zeros(vocabulary if self._penalized else 0, dtype=torch.bool)
        if self._penalized:
            self._seen[list(tokens)] = True

    def draw(self, logits: torch.Tensor) -> int:
        """The next token of logits [V] float32; it counts as seen from now on."""
        token = int(self._penalize(logits).numpy().argmax()) if self._greedy else self._pick(self.distribution(logits))
        if self._penalized:
            self._seen[token] = True
        return token

    def distribution(self, logits: torch.Tensor) -> torch.Tensor:
        """What a token is drawn from: probabilities [V] float32 after all filters. Needs a temperature above 0."""
        options = self.options
        scores = self._penalize(logits)
        scores = (scores - scores.max()) / options.temperature  # the shift keeps a small temperature from overflowing
        if 0 < options.top_k < scores.numel():
            scores = scores.masked_fill(scores < scores.topk(options.top_k).values[-1], -torch.inf)
        if options.top_p < 1:
            scores = _nucleus(scores, options.top_p)
        if options.min_p > 0:
            probabilities = scores.softmax(-1)
            scores = scores.masked_fill(probabilities < options.min_p * probabilities.max(), -torch.inf)
        return scores.softmax(-1)

    def verify(self, logits: torch.Tensor, drafted: Sequence[int]) -> list[int]:
        """The tokens that plain decoding would have given after each row of logits [1 + len(drafted), V].

        Row i follows i drafted tokens. Tokens are drawn until one differs from the draft: those before it are accepted
        drafts, the last one is the correction, or the bonus when all drafts were accepted. For a draft x this accepts
        with probability p(x), and a correction is distributed as p without x: speculative sampling (Leviathan et al.
        2022, arXiv 2211.17192) for a drafter that is certain of its draft.
        """
        if self._greedy and not self._penalized:
            likeliest = logits.numpy().argmax(-1).tolist()  # torch would wake its threads for a few microseconds of work
            agreed = next((i for i, token in enumerate(drafted) if likeliest[i] != token), len(drafted))
            return list(likeliest[: agreed + 1])
        drawn: list[int] = []
        for row, draft in zip(logits, [*drafted, None], strict=True):
            drawn.append(self.draw(row))
            if drawn[-1] != draft:
                break
        return drawn

    def _penalize(self, logits: torch.Tensor) -> torch.Tensor:
        if not self._penalized:
            return logits
        penalty = self.options.repetition_penalty
        return torch.where(self._seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)

    def _pick(self, probabilities: torch.Tensor) -> int:
        """Inverse of the cumulative distribution at one uniform number above 0."""
        cumulative = probabilities.double().cumsum(-1)
        uniform = 1 - torch.rand((), generator=self._generator, dtype=torch.float64)
        return int(torch.searchsorted(cumulative, uniform * cumulative[-1]))


def _nucleus(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Scores [V] with all but the likeliest tokens that together reach `top_p` removed; the likeliest always stays."""
    count = min(_FEW, scores.numel())
    total = scores.logsumexp(-1)
    values, indices = scores.topk(count)
    if (values - total).exp().sum() < top_p:
        values, indices = scores.sort(descending=True)
    mass = (values - total).exp().cumsum(-1)
    keep = int((mass < top_p).sum()) + 1
    kept = torch.full_like(scores, -torch.inf)
    return kept.scatter(0, indices[:keep], values[:keep])
