"""How much of full attention the keys that a technique lets through would have, query by query."""

from __future__ import annotations

import numpy as np

from core.charts.attention_rows import MEAN
from core.charts.chart import Chart, Series
from core.charts.labelled import Labelled, columns, ending_notes, prefix
from core.events import AttentionCaptured
from core.trace import Trace


def attention_mass(traces: Labelled, *, layer: int | None = None, head: int = MEAN) -> Chart:
    """The mass that each technique kept. layer None is the first captured one, head −1 the mean of all heads."""
    layer = min((at for _, trace in traces for at in trace.attention), default=0) if layer is None else layer
    found = [(label, column, masses(trace, layer)) for label, column, trace in columns(traces)]
    who = "mean of all heads" if head == MEAN else f"head {head}"
    return Chart(
        name="attention_mass",
        title=f"Attention mass kept, layer {layer}, {who}",
        badge="measured",
        definition="Share of the softmax over all keys in the cache that falls on the keys that the technique lets it see"
        + ("; the band is from the head that keeps least to the one that keeps most." if head == MEAN else "."),
        x_label="query",
        y_label="mass kept",
        series=tuple(
            _series(label, column, maps, head) for label, column, maps in found if maps and head < len(maps[0].weights)
        ),
        notes=(*_unhidden(traces, layer), *ending_notes(traces)),
        empty="Choose an attention technique that hides keys, turn on Inspect and run: here each query shows how much of full "
        "attention it kept.",
    )


def masses(trace: Trace, layer: int) -> list[AttentionCaptured]:
    """Captures of a layer that tell their mass, in order."""
    return [one for one in trace.attention.get(layer, ()) if one.mass is not None]


def _series(label: str, column: int, maps: list[AttentionCaptured], head: int) -> Series:
    x = np.concatenate([np.arange(one.first_query, one.first_query + one.weights.shape[1]) for one in maps])
    kept = np.concatenate([one.mass for one in maps if one.mass is not None], axis=1).astype(float)  # [H, queries]
    if head != MEAN:
        return Series(label, x, kept[head], "line", column, "attention")
    return Series(label, x, kept.mean(0), "line", column, "attention", kept.min(0), kept.max(0))


def _unhidden(traces: Labelled, layer: int) -> tuple[str, ...]:
    return tuple(
        f"{prefix(traces, label)}nothing was hidden in this layer"
        for label, trace in traces
        if trace.attention.get(layer) and not masses(trace, layer)
    )
