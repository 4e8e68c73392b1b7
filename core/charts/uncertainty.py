"""How sure the model was of every token: its probability, and the entropy of the choice."""

from __future__ import annotations

import numpy as np

from core.charts.chart import Chart, Series
from core.charts.labelled import Labelled, columns, ending_notes

_HOW = "Turn on Inspect and run: here "


def probability(traces: Labelled) -> Chart:
    """Probability of each generated token."""
    return Chart(
        name="probability",
        title="Probability of each token",
        badge="measured",
        definition="Softmax probability of the token that was chosen, before temperature and filters.",
        x_label="generated token",
        y_label="probability",
        series=_lines(traces, "probability"),
        notes=ending_notes(traces),
        empty=f"{_HOW}every token shows how likely the model found it.",
    )


def entropy(traces: Labelled) -> Chart:
    """Entropy of each next-token distribution."""
    return Chart(
        name="entropy",
        title="Entropy of each choice",
        badge="measured",
        definition="Entropy of the model's next-token distribution: 0 is certain, ln n is a choice among n tokens alike.",
        x_label="generated token",
        y_label="entropy (nats)",
        series=_lines(traces, "entropy"),
        notes=ending_notes(traces),
        empty=f"{_HOW}every token shows how open the choice was.",
    )


def _lines(traces: Labelled, field: str) -> tuple[Series, ...]:
    found = []
    for label, column, trace in columns(traces):
        values = [getattr(token, field) for token in trace.tokens]
        y = np.array([np.nan if value is None else value for value in values], float)
        if np.isfinite(y).any():
            found.append(Series(label, 1 + np.arange(y.size), y, "line", column))
    return tuple(found)
