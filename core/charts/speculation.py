"""Every speculative round: what was drafted, what of it stood, and what the model put in its place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.charts.chart import Cell, Chart, Series, Table
from core.charts.labelled import Labelled, columns, counted, ending_notes, prefix
from core.events import Round, Step, Token
from core.trace import Trace

_EMPTY = "Choose a drafting technique, such as decoding.name=prompt_lookup, and run: here "
_WINDOW = 8  # rounds in the running rate
_COLUMNS = (
    "round",
    "step",
    "drafted",
    "drafted tokens",
    "accepted",
    "accepted tokens",
    "rejected",
    "model's own token",
    "it is",
    "pass (ms)",
)


def speculation_rounds(traces: Labelled) -> Chart:
    """Stacked bars a round of the first trace that speculated: accepted, rejected, and the model's own token."""
    label, rounds = _first(traces)
    accepted = np.array([one.accepted for one in rounds], float)
    rejected = np.array([len(one.drafted) - one.accepted for one in rounds], float)
    own = np.array([one.final is not None for one in rounds], float)
    parts = (("accepted", accepted, "drafted"), ("the model's own token", own, "bonus"), ("rejected", rejected, "corrected"))
    index, base, series = np.array([one.index for one in rounds]), np.zeros(len(rounds)), []
    for name, y, key in parts if rounds else ():
        series.append(Series(name, index, y, "bar", 0, key, base=base))
        base = base + y
    return Chart(
        name="speculation_rounds",
        title=f"Speculative rounds{label}",
        badge="measured",
        definition="Tokens drafted in each round: accepted ones stand, the first rejected one is replaced by the model's own; "
        "when all are accepted the model adds one more.",
        x_label="round",
        y_label="tokens",
        series=tuple(series),
        notes=_rates(traces),
        empty=f"{_EMPTY}each round shows how many drafted tokens were accepted.",
    )


def acceptance(traces: Labelled) -> Chart:
    """Accepted over drafted tokens, from the first round on and over the last rounds."""
    found = [(label, column, trace.rounds) for label, column, trace in columns(traces) if trace.rounds]
    return Chart(
        name="acceptance",
        title="Acceptance rate over rounds",
        badge="derived",
        definition=f"Accepted / drafted tokens, over all rounds so far (line) and over the last {_WINDOW} (points).",
        x_label="round",
        y_label="acceptance rate",
        series=tuple(series for label, column, rounds in found for series in _rate_series(label, column, rounds)),
        notes=(*_rates(traces), *ending_notes(traces)),
        empty=f"{_EMPTY}the share of accepted tokens runs over the rounds.",
    )


def speculation_table(traces: Labelled) -> Chart:
    """A row a round of the first trace that speculated, with the text of what was accepted and rejected."""
    label, rounds = _first(traces)
    steps = {step.index: step for _, trace in traces if trace.rounds is rounds for step in trace.steps}
    return Chart(
        name="speculation_table",
        title=f"Speculative rounds, text{label}",
        badge="measured",
        definition="Text of each draft, of what was accepted and rejected of it, and of the token the model added itself.",
        notes=_rates(traces),
        empty=f"{_EMPTY}every round shows its drafted, accepted and rejected text.",
        listing=Table(_COLUMNS, tuple(_row(one, steps.get(one.step)) for one in rounds)),
    )


def _first(traces: Labelled) -> tuple[str, list[Round]]:
    """Title ending and rounds of the first trace that has any."""
    found = ((label, trace) for label, trace in traces if trace.rounds)
    label, trace = next(found, ("", Trace()))
    return (f", {label}" if label and len(traces) > 1 else ""), trace.rounds


def _row(one: Round, step: Step | None) -> tuple[Cell, ...]:
    accepted, rejected = one.drafted[: one.accepted], one.drafted[one.accepted :]
    final, source = (one.final.text, one.final.source) if one.final else (None, "the run ended")
    ms = None if step is None else round(step.ms, 3)
    drafted = (_text(one.drafted), len(one.drafted), _text(accepted), one.accepted, _text(rejected))
    return (one.index, one.step, *drafted, final, source, ms)


def _text(tokens: Sequence[Token]) -> str:
    return "".join(token.text for token in tokens)


def _rate_series(label: str, column: int, rounds: Sequence[Round]) -> tuple[Series, Series]:
    drafted, accepted = _counts(rounds)
    index = np.array([one.index for one in rounds])
    so_far = np.cumsum(accepted) / np.maximum(1, np.cumsum(drafted))
    recent = _running(accepted) / np.maximum(1, _running(drafted))
    return (
        Series(f"{label}, so far", index, so_far, "line", column),
        Series(f"{label}, last {_WINDOW}", index, recent, "scatter", column),
    )


def _running(values: np.ndarray) -> np.ndarray:
    """Sum of each value and up to `_WINDOW` − 1 before it."""
    total = np.cumsum(values)
    sums: np.ndarray = total - np.concatenate([np.zeros(min(_WINDOW, total.size)), total[:-_WINDOW]])
    return sums


def _counts(rounds: Sequence[Round]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([len(one.drafted) for one in rounds], float), np.array([one.accepted for one in rounds], float)


def _rates(traces: Labelled) -> tuple[str, ...]:
    return tuple(prefix(traces, label) + _rate(trace) for label, trace in traces if trace.rounds)


def _rate(trace: Trace) -> str:
    drafted, accepted = (int(counts.sum()) for counts in _counts(trace.rounds))
    rounds = len(trace.rounds)
    plain = max(0, sum(step.index >= 0 for step in trace.steps) - rounds)
    return (
        f"{accepted} of {drafted} drafted tokens accepted ({accepted / max(1, drafted):.0%}) in {counted(rounds, 'round')}, "
        f"mean acceptance length {1 + accepted / rounds:.2f}; {counted(plain, 'pass')} had no draft"
    )
