"""Attention of one head: who looked at whom, from the prompt's map and the rows of every later pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.attention.mask import FULL, Reach, reaches
from core.charts.chart import Chart, Heatmap
from core.charts.labelled import Labelled, counted, ending_notes, token_labels
from core.events import AttentionCaptured
from core.trace import Trace

_MEAN = -1


@dataclass(frozen=True)
class Assembled:
    """values [T, S] of queries `first` … first + T − 1 over keys 0 … S − 1; NaN where nothing was captured.

    absent [T, S]: keys the query could not see although they came before it (evicted from the cache).
    """

    first: int
    values: np.ndarray
    absent: np.ndarray


def attention_map(traces: Labelled, *, layer: int = 0, head: int = _MEAN, step: int | None = None) -> Chart:
    """Attention weights of the first trace. head −1 is the mean of all heads. step None is every pass, −1 the prefill."""
    trace = traces[0][1] if traces else Trace()
    maps = [one for one in trace.attention.get(layer, ()) if step is None or one.step == step]
    found = assemble(maps, head, len(trace.all_tokens))
    who = "mean of all heads" if head == _MEAN else f"head {head}"
    return Chart(
        name="attention_map",
        title=f"Attention, layer {layer}, {who}",
        badge="measured",
        definition="Softmax weight that the query token (row) gives to each earlier token (column); a row sums to 1.",
        x_label="key",
        y_label="query",
        heatmap=None if found is None else _heatmap(trace, found, layer),
        notes=(*_coverage(trace, found), *ending_notes(traces[:1])),
        empty=_empty(trace, layer),
    )


def assemble(maps: Sequence[AttentionCaptured], head: int, length: int) -> Assembled | None:
    """One map of the captures, in positions; later passes overwrite earlier ones. None when there is nothing to show."""
    maps = [one for one in maps if one.first_query < length and one.weights.size and head < one.weights.shape[0]]
    if not maps:
        return None
    first = min(one.first_query for one in maps)
    rows = min(length, max(one.first_query + one.weights.shape[1] for one in maps)) - first
    values = np.full((rows, first + rows), np.nan, np.float32)
    absent = np.zeros(values.shape, bool)
    for one in maps:
        _place(one, head, first, values, absent)
    return Assembled(first, values, absent)


def _place(one: AttentionCaptured, head: int, first: int, values: np.ndarray, absent: np.ndarray) -> None:
    """Write the rows of one pass. Keys that were not there carry no weight: 0, and absent."""
    known = (one.key_positions >= 0) & (one.key_positions < values.shape[1])
    keys = one.key_positions[known]
    weights = one.weights[:, :, known]
    rows = (weights.mean(0, dtype=np.float32) if head == _MEAN else weights[head].astype(np.float32))[: len(values)]
    for row, weight in enumerate(rows, one.first_query - first):
        if row >= len(values):
            break
        past = slice(0, row + first + 1)
        values[row], absent[row] = np.nan, False
        values[row, past], absent[row, past] = 0.0, True
        seen = keys <= row + first
        values[row, keys[seen]], absent[row, keys[seen]] = weight[seen], False


def _heatmap(trace: Trace, found: Assembled, layer: int) -> Heatmap:
    labels = token_labels(trace)
    rows, keys = found.values.shape
    queries = np.arange(found.first, found.first + rows)
    allowed = _reach(trace, layer).allowed(queries, np.arange(keys))
    causal = FULL.allowed(queries, np.arange(keys))
    veil = (causal & ~allowed | found.absent) & np.isfinite(found.values)
    return Heatmap(
        values=found.values,
        row_labels=labels[found.first : found.first + rows],
        column_labels=labels[:keys],
        low=0.0,
        high=1.0,
        unit="attention weight",
        overlay=veil if veil.any() else None,
        scale="sqrt",
    )


def _reach(trace: Trace, layer: int) -> Reach:
    if trace.started is None or layer >= trace.started.info.layers:
        return FULL
    return reaches(trace.started.config.attention, trace.started.info.layers)[layer]


def _coverage(trace: Trace, found: Assembled | None) -> tuple[str, ...]:
    """What the map leaves out, and what is veiled."""
    if found is None:
        return ()
    total, rows = len(trace.all_tokens), len(found.values)
    missing = int(np.isnan(found.values[:, 0]).sum())
    notes = []
    if found.first:
        notes.append(f"queries 0 to {found.first - 1} were not captured")
    if missing:
        notes.append(f"{counted(missing, 'query')} in between not captured")
    if trace.capture_ended is not None and found.first + rows < total - 1:
        notes.append(f"captured up to query {found.first + rows - 1}: {trace.capture_ended.message}")
    return (*notes, "veiled cells are hidden by the mask or no longer in the cache") if _veils(trace, found) else tuple(notes)


def _veils(trace: Trace, found: Assembled) -> bool:
    return bool(found.absent.any()) or (trace.started is not None and trace.started.config.attention.name != "full")


def _empty(trace: Trace, layer: int) -> str:
    if trace.attention:
        return f"Layer {layer} was not captured; choose one of {', '.join(map(str, sorted(trace.attention)))}."
    return "Turn on Inspect and run: here each token shows which earlier tokens it looked at, layer by layer and head by head."
