"""Needles in a haystack: which facts a configuration still finds, by depth and length."""

from __future__ import annotations

from core.charts.chart import Chart, Heatmap
from core.charts.labelled import Labelled, counted, special
from core.errors import BadInput
from core.quality.results import NeedleMeasured

_MEASURES = {
    "log_probability": "Mean log-probability of the right answer's tokens, given the prompt: 0 is certain. It tells of what is "
    "kept even where the greedy answer is wrong, as a small model's often is.",
    "recall": "Share of greedy answers that hold the hidden number.",
}
_TITLES = {"log_probability": "log-probability of the answer", "recall": "recall"}


def needle(traces: Labelled, *, measure: str = "log_probability") -> Chart:
    """Depths × lengths of the first trace's last sweep. measure: `log_probability` or `recall`."""
    if measure not in _MEASURES:
        raise BadInput(f"measure={measure}: there are {', '.join(_MEASURES)}")
    measured = next((sweep for _, trace in traces[:1] for sweep in reversed(trace.needles)), None)
    return Chart(
        name="needle",
        title=f"Needle in a haystack: {_TITLES[measure]}",
        badge="measured",
        definition=_MEASURES[measure],
        x_label="prompt (tokens)",
        y_label="depth (%)",
        heatmap=None if measured is None else _map(measured, measure),
        notes=() if measured is None else (*_notes(measured),),
        empty="Choose Needles in a text in the Quality dock and press Measure, or use quality --needle: here each cell says "
        "whether a fact hidden at that depth of a text of that length is found.",
    )


def _map(measured: NeedleMeasured, measure: str) -> Heatmap:
    labels = tuple(map(str, measured.depths)), tuple(map(str, measured.lengths))
    if measure == "recall":
        return Heatmap(measured.recall, *labels, 0.0, 1.0, "share found")
    low = min(-2.5, float(measured.log_probability.min()))
    return Heatmap(measured.log_probability, *labels, low, 0.0, "nats a token")


def _notes(measured: NeedleMeasured) -> tuple[str, ...]:
    found = f"{measured.recall.mean():.0%} found, {counted(measured.trials, 'needle')} a cell"
    return special(measured.config), found, f"filler: {measured.text}"
