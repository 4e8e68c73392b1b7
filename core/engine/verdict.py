"""What a pass over the weights decided, and how it is told: tokens and rounds with their alternatives.

Notation: n rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from core.events import Round, Step, Token, TokenSource

_TEXTS = 10  # alternatives whose text is kept
_PART = 64  # logits of which one maximum is taken

Piece = Callable[[int], str]


@dataclass(frozen=True)
class Verdict:
    """The tokens a pass chose.

    drawn: accepted drafts, then the model's own token. kept: how many of them came before the run ended. first: position
    of the first. text: what became final. round: index of the round, where something was drafted.
    """

    drafted: tuple[int, ...]
    drawn: tuple[int, ...]
    kept: int
    first: int
    text: str
    round: int

    @property
    def accepted(self) -> int:
        """Drafted tokens that are part of the result."""
        return min(self.kept, len(self.drawn) - 1)

    @property
    def own_source(self) -> TokenSource:
        """Where the model's own token came from."""
        if not self.drafted:
            return "sampled"
        return "bonus" if len(self.drawn) > len(self.drafted) else "corrected"


@dataclass(frozen=True)
class Alternatives:
    """The model's own distribution at one position: softmax of the raw logits, before temperature and filters."""

    probability: float
    entropy: float
    top_ids: np.ndarray
    top_probabilities: np.ndarray
    top_texts: tuple[str, ...]


def alternatives(logits: torch.Tensor, chosen: Sequence[int], top: int, piece: Piece) -> tuple[Alternatives, ...]:
    """One entry for each token of `chosen`, read from its row of logits [n, V]."""
    return tuple(_alternatives(row, token, top, piece) for row, token in zip(logits.numpy(), chosen, strict=False))


def _alternatives(logits: np.ndarray, token: int, top: int, piece: Piece) -> Alternatives:
    """Of logits [V] float32. NumPy on one thread takes less than torch takes to wake its own."""
    below = logits - logits.max()
    shares = np.exp(below)
    total = shares.sum()
    ids = likeliest(logits, top)
    texts = tuple(piece(index) for index in ids[:_TEXTS].tolist())
    entropy = float(np.log(total) - _weighted(shares, below) / total)
    return Alternatives(float(shares[token] / total), entropy, ids.astype(np.int32), shares[ids] / total, texts)


def likeliest(logits: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest of logits [V], largest first; of equal ones, the first.

    Only what reaches an edge is sorted: the `count`-th largest of the maxima of more than `count` parts, each of which is in
    the result or below it.
    """
    parts = len(logits) // _PART
    if parts <= count:
        return np.argsort(-logits, kind="stable")[:count]
    maxima = logits[: parts * _PART].reshape(_PART, parts).max(0)
    found = np.flatnonzero(logits >= np.partition(maxima, -count)[-count])
    return found[np.argsort(-logits[found], kind="stable")[:count]]


def _weighted(shares: np.ndarray, below: np.ndarray) -> float:
    """Sum of shares · below; a token that cannot come, at minus infinity, adds nothing."""
    found = float(np.einsum("i,i", shares, below))
    if np.isfinite(found):
        return found
    possible = shares > 0
    return float(np.einsum("i,i", shares[possible], below[possible]))


def tokens_of(verdict: Verdict, seen: Sequence[Alternatives], piece: Piece) -> tuple[Token, ...]:
    """The kept tokens; `seen` is empty or has an entry for each drawn one."""
    round_ = verdict.round if verdict.drafted else None
    own = len(verdict.drawn) - 1
    plain = [
        Token(verdict.first + i, token, piece(token), verdict.own_source if i == own else "drafted", round=round_)
        for i, token in enumerate(verdict.drawn[: verdict.kept])
    ]
    return tuple(_with(token, seen[i]) for i, token in enumerate(plain)) if seen else tuple(plain)


def rejected_of(verdict: Verdict, logits: torch.Tensor, seen: Sequence[Alternatives], piece: Piece) -> tuple[Token, ...]:
    """The drafted tokens that are no part of the result.

    Only the first has alternatives: the rows of logits [n, V] after it continue a text that was not kept.
    """
    accepted = verdict.accepted
    tokens = [
        Token(verdict.first + i, token, piece(token), "drafted", round=verdict.round)
        for i, token in enumerate(verdict.drafted)
        if i >= accepted
    ]
    if seen and tokens:
        its_own = float(logits[accepted].softmax(-1)[tokens[0].id])
        tokens[0] = replace(_with(tokens[0], seen[accepted]), probability=its_own)
    return tuple(tokens)


def round_of(verdict: Verdict, step: Step, rejected: Sequence[Token]) -> Round:
    """The round that ended in `step`."""
    accepted = verdict.accepted
    final = step.tokens[-1] if verdict.kept == len(verdict.drawn) else None
    return Round(verdict.round, step.index, (*step.tokens[:accepted], *rejected), accepted, final)


def _with(token: Token, seen: Alternatives) -> Token:
    return replace(
        token,
        probability=seen.probability,
        entropy=seen.entropy,
        top_ids=seen.top_ids,
        top_probabilities=seen.top_probabilities,
        top_texts=seen.top_texts,
    )
