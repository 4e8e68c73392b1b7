"""How far the other configurations' outputs are from the first one's: tokens, KL divergence, probabilities.

Two runs of the same prompt can be compared up to and with the first token that differs: until there they share the context.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from core.charts.chart import Cell, Chart, Series, Table
from core.charts.labelled import Labelled, columns, ending_notes
from core.compare import kl_lower_bound
from core.events import Token
from core.trace import Trace

_HOW = "Run the same prompt with two configurations"
_COLUMNS = (
    "configuration", "tokens equal to A", "tokens compared", "first token that differs", "token of A there", "token there",
    "mean KL, at least (nats)", "largest KL, at least (nats)", "positions with KL",
)  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """Two runs of one prompt: how many generated tokens are equal from the start, out of how many both have.

    first: generated index of the first token that differs, None when all shared ones are equal.
    """

    equal: int
    compared: int
    first: int | None


def agreement(base: Trace, other: Trace) -> Agreement | None:
    """How far `other` follows `base`; None when the prompts differ, so that nothing can be compared."""
    if not comparable(base, other):
        return None
    compared = min(len(base.tokens), len(other.tokens))
    pairs = zip(base.tokens, other.tokens)
    first = next((index for index, (one, two) in enumerate(pairs) if one.id != two.id), None)
    return Agreement(compared if first is None else first, compared, first)


def numbered(index: int | None) -> int | None:
    """A generated index as people count: from 1."""
    return None if index is None else index + 1


def comparable(base: Trace, other: Trace) -> bool:
    """Whether both began with the same token ids of the same vocabulary."""
    if base.started is None or other.started is None:
        return False
    same = [token.id for token in base.prompt_tokens] == [token.id for token in other.prompt_tokens]
    return same and base.started.info.vocabulary == other.started.info.vocabulary


def shared_positions(base: Trace, other: Trace) -> int:
    """Generated positions with the same context in both: all up to and with the first that differs."""
    found = agreement(base, other)
    if found is None:
        return 0
    return found.compared if found.first is None else found.first + 1


def probability_of(token: Token, other: Token) -> float:
    """Probability that `other`'s position gives to `token`; NaN where it was not among the alternatives kept."""
    if other.id == token.id and other.probability is not None:
        return other.probability
    if other.top_ids is None or other.top_probabilities is None:
        return float("nan")
    found = np.flatnonzero(other.top_ids == token.id)
    return float(other.top_probabilities[found[0]]) if found.size else float("nan")


def quality(traces: Labelled) -> Chart:
    """A row for each configuration after the first."""
    rows = tuple(_row(label, traces[0][1], trace) for label, trace in traces[1:] if comparable(traces[0][1], trace))
    return Chart(
        name="quality",
        title="Agreement with A",
        badge="derived",
        definition="Tokens equal from the start, and the KL divergence of A's next-token distribution to the other's at every "
        "position that shares its context: at least so much, from the alternatives that both runs kept.",
        notes=_notes(traces),
        empty=f"{_HOW}: here the tokens that agree are counted and the first that differs is named.",
        listing=Table(_COLUMNS, rows),
    )


def _row(label: str, base: Trace, other: Trace) -> tuple[Cell, ...]:
    found = agreement(base, other)
    assert found is not None
    kl = _kl(base, other)
    known = kl[np.isfinite(kl)]
    there = ("", "") if found.first is None else (base.tokens[found.first].text, other.tokens[found.first].text)
    spread = (float(known.mean()), float(known.max())) if known.size else (None, None)
    return (label, found.equal, found.compared, numbered(found.first), *there, *spread, int(known.size))


def _kl(base: Trace, other: Trace) -> np.ndarray:
    """[shared positions] nats."""
    shared = shared_positions(base, other)
    bounds = [kl_lower_bound(*pair) for pair in zip(base.tokens[:shared], other.tokens[:shared])]
    return np.array([np.nan if bound is None else bound for bound in bounds], float)


def quality_kl(traces: Labelled) -> Chart:
    """KL divergence to the first trace at each shared position, at least."""
    others = list(columns(traces))[1:]
    lines = [(label, column, _kl(traces[0][1], trace)) for label, column, trace in others]
    return Chart(
        name="quality_kl",
        title="KL divergence from A, at least",
        badge="derived",
        definition="KL of A's next-token distribution to the other's at each position that shares its context, over the tokens "
        "both kept and one bin for the rest: a lower bound.",
        x_label="generated token",
        y_label="KL (nats)",
        series=tuple(Series(label, 1 + np.arange(kl.size), kl, "line", column) for label, column, kl in lines if kl.size),
        notes=_notes(traces),
        empty=f"{_HOW} and Inspect on: here their next-token distributions are compared at every shared position.",
    )


def quality_probability(traces: Labelled) -> Chart:
    """The probability of A's token, under A and under the others, at each shared position."""
    return Chart(
        name="quality_probability",
        title="Probability of A's token",
        badge="measured",
        definition="Probability of the token that A chose: under A, and under the others where they share A's context.",
        x_label="generated token",
        y_label="probability",
        series=tuple(_probabilities(traces)),
        notes=_notes(traces),
        empty=f"{_HOW} and Inspect on: here the others say how likely they found A's tokens.",
    )


def _probabilities(traces: Labelled) -> Iterator[Series]:
    shared = {label: shared_positions(traces[0][1], trace) for label, trace in traces[1:]}
    if not any(shared.values()):
        return
    base = traces[0][1].tokens
    for label, column, trace in columns(traces):
        pairs = zip(base, trace.tokens[: shared.get(label, max(shared.values()))])
        y = np.array([probability_of(one, two) for one, two in pairs], float)
        if y.size:
            yield Series(label, 1 + np.arange(y.size), y, "line", column)


def _notes(traces: Labelled) -> tuple[str, ...]:
    return (*(_note(label, traces[0][1], trace) for label, trace in traces[1:]), *ending_notes(traces))


def _note(label: str, base: Trace, other: Trace) -> str:
    found = agreement(base, other)
    if found is None:
        return f"{label} had another prompt or vocabulary and cannot be compared"
    if found.first is None:
        return f"{label}: all {found.compared} shared tokens equal A's"
    return f"{label}: the first {found.equal} tokens equal A's, token {numbered(found.first)} differs"
