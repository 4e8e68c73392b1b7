"""How much of full attention the keys that a technique lets through would have, by head and query."""

from __future__ import annotations

import numpy as np

from core.charts.chart import Chart, Heatmap
from core.charts.labelled import Labelled, ending_notes, token_labels
from core.events import AttentionCaptured
from core.trace import Trace

_MOST_COLUMNS = 2048  # queries; more are drawn in blocks


def attention_mass(traces: Labelled, *, layer: int | None = None) -> Chart:
    """The mass that each head of the first trace kept. layer None is the first captured one."""
    trace = traces[0][1] if traces else Trace()
    layer = min(trace.attention, default=0) if layer is None else layer
    maps = masses(trace, layer)
    return Chart(
        name="attention_mass",
        title=f"Attention mass kept, layer {layer}",
        badge="measured",
        definition="Share of the softmax over all keys in the cache that falls on the keys that the technique lets the query "
        "see, in each head.",
        x_label="query",
        y_label="head",
        heatmap=_heatmap(trace, maps) if maps else None,
        notes=(*_notes(maps), *ending_notes(traces[:1])),
        empty=_empty(trace, layer),
    )


def masses(trace: Trace, layer: int) -> list[AttentionCaptured]:
    """Captures of a layer that tell their mass, in order."""
    return [one for one in trace.attention.get(layer, ()) if one.mass is not None]


def _heatmap(trace: Trace, maps: list[AttentionCaptured]) -> Heatmap:
    """From the first captured query on; blocks of queries show their mean."""
    first = min(one.first_query for one in maps)
    end = max(one.first_query + one.weights.shape[1] for one in maps)
    kept = np.full((len(maps[0].weights), end - first), np.nan, np.float32)
    for one in maps:
        assert one.mass is not None
        kept[:, one.first_query - first : one.first_query - first + one.mass.shape[1]] = one.mass
    block = -(-kept.shape[1] // _MOST_COLUMNS)
    starts = range(first, end, block)
    labels = token_labels(trace)
    names = tuple(labels[start] if block == 1 and start < len(labels) else str(start) for start in starts)
    return Heatmap(_means(kept, block), tuple(map(str, range(len(kept)))), names, 0.0, 1.0, "mass kept")


def _means(kept: np.ndarray, block: int) -> np.ndarray:
    """Of each `block` columns, those that are unknown left out."""
    known = np.isfinite(kept)
    starts = np.arange(0, kept.shape[1], block)
    counts = np.add.reduceat(known, starts, 1, dtype=np.float32)
    sums = np.add.reduceat(np.where(known, kept, 0), starts, 1)
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def _notes(maps: list[AttentionCaptured]) -> tuple[str, ...]:
    if not maps:
        return ()
    least = np.concatenate([one.mass for one in maps if one.mass is not None], 1).mean(1, dtype=np.float32)  # [H]
    return (f"head {int(least.argmin())} keeps least: {least.min():.0%} on average; all heads together {least.mean():.0%}",)


def _empty(trace: Trace, layer: int) -> str:
    if trace.attention.get(layer):
        return "Nothing was hidden in this layer: every query saw all that the cache held."
    return (
        "Choose an attention technique that hides keys, turn on Inspect and run: here each query shows how much of full "
        "attention it kept."
    )
