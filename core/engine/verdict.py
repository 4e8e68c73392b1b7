"""What a pass over the weights decided, and how it is told: tokens and rounds with their alternatives.

Notation: n rows, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from core.engine.softmax_sums import softmax_sums
from core.events import Round, Step, Token, TokenSource

_TEXTS = 10  # alternatives whose text is kept
_PART = 64  # logits of which one maximum is taken

Piece = Callable[[int], str]


@dataclass(frozen=True)
class Verdict:
    """The tokens a pass chose.

    drawn: accepted drafts, then the model's own token, unless the run ended before. kept: how many of them came before it
    ended. first: position of the first. text: what became final. round: index of the round, where something was drafted.
    """

    drafted: tuple[int, ...]
    drawn: tuple[int, ...]
    kept: int
    first: int
    text: str
    round: int

    @property
    def agreed(self) -> int:
        """Drafted tokens that were drawn."""
        pairs = enumerate(zip(self.drafted, self.drawn, strict=False))
        return next((i for i, (draft, token) in pairs if draft != token), min(len(self.drafted), len(self.drawn)))

    @property
    def accepted(self) -> int:
        """Drafted tokens that are part of the result."""
        return min(self.kept, self.agreed)

    @property
    def own_source(self) -> TokenSource:
        """Where the model's own token came from."""
        if not self.drafted:
            return "sampled"
        return "bonus" if len(self.drawn) > len(self.drafted) else "corrected"


class Alternatives(NamedTuple):
    """The model's own distribution at one position: softmax of the raw logits, before temperature and filters. As in Token."""

    probability: float
    entropy: float
    top_ids: np.ndarray
    top_probabilities: np.ndarray
    top_texts: tuple[str, ...]


def alternatives(logits: torch.Tensor, chosen: Sequence[int], top: int, piece: Piece) -> tuple[Alternatives, ...]:
    """One entry for each token of `chosen`, read from its row of logits [n, V]."""
    return tuple(_alternatives(row, token, top, piece) for row, token in zip(logits.numpy(), chosen, strict=False))


def _alternatives(logits: np.ndarray, token: int, top: int, piece: Piece) -> Alternatives:
    """Of logits [V] float32."""
    peak, total, weighted = softmax_sums(logits)
    ids = likeliest(logits, top)
    shares = np.exp(logits[ids] - np.float32(peak)) / np.float32(total)
    texts = tuple(map(piece, ids[:_TEXTS].tolist()))
    probability = math.exp(logits[token] - peak) / total
    return Alternatives(probability, math.log(total) - weighted / total, ids.astype(np.int32), shares, texts)


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


def tokens_of(verdict: Verdict, seen: Sequence[Alternatives], piece: Piece) -> tuple[Token, ...]:
    """The kept tokens; `seen` is empty or has an entry for each drawn one."""
    round_ = verdict.round if verdict.drafted else None
    own = verdict.agreed

    def told(i: int, token: int) -> Token:
        index, source = verdict.first + i, verdict.own_source if i == own else "drafted"
        if not seen:
            return Token(index, token, piece(token), source, round=round_)
        return Token(index, token, piece(token), source, 0.0, *seen[i], round_)

    return tuple(told(i, token) for i, token in enumerate(verdict.drawn[: verdict.kept]))


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
    if len(seen) > accepted and tokens:
        its_own = float(logits[accepted].softmax(-1)[tokens[0].id])
        tokens[0] = replace(tokens[0], **seen[accepted]._replace(probability=its_own)._asdict())
    return tuple(tokens)


def round_of(verdict: Verdict, step: Step, rejected: Sequence[Token]) -> Round:
    """The round that ended in `step`."""
    accepted = verdict.accepted
    final = step.tokens[-1] if verdict.kept > verdict.agreed else None
    return Round(verdict.round, step.index, (*step.tokens[:accepted], *rejected), accepted, final)
