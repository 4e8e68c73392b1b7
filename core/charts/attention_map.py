"""Attention of one head: who looked at whom, from the prompt's map and the rows of every later pass."""

from __future__ import annotations

import numpy as np

from core.attention.mask import FULL, Reach
from core.attention.patterns import Plan, plans
from core.charts.attention_rows import MEAN, Assembled, assemble
from core.charts.chart import Chart, Heatmap
from core.charts.labelled import Labelled, counted, ending_notes, token_labels
from core.trace import Trace


def attention_map(traces: Labelled, *, layer: int | None = None, head: int = MEAN, step: int | None = None) -> Chart:
    """Attention weights of the first trace. layer None is the first captured one, head −1 the mean of all heads.

    step None is every pass, −1 the prefill.
    """
    trace = traces[0][1] if traces else Trace()
    layer = min(trace.attention, default=0) if layer is None else layer
    maps = [one for one in trace.attention.get(layer, ()) if step is None or one.step == step]
    return chart_of(traces, layer, head, assemble(maps, head, len(trace.all_tokens)))


def chart_of(traces: Labelled, layer: int, head: int, found: Assembled | None) -> Chart:
    """The chart of a map that is assembled already."""
    trace = traces[0][1] if traces else Trace()
    who = "mean of all heads" if head == MEAN else f"head {head}"
    return Chart(
        name="attention_map",
        title=f"Attention, layer {layer}, {who}",
        badge="measured",
        definition="Softmax weight that the query token (row) gives to each earlier token (column); a row sums to 1.",
        x_label="key",
        y_label="query",
        heatmap=None if found is None else _heatmap(trace, found, layer, head),
        notes=(*_coverage(trace, found, layer), *ending_notes(traces[:1])),
        empty=_empty(trace, layer),
    )


def _heatmap(trace: Trace, found: Assembled, layer: int, head: int) -> Heatmap:
    labels = token_labels(trace)
    queries, keys = found.starts()
    veil = found.absent | _hidden(_plan(trace, layer), found, head / max(1, _heads(trace, layer)))
    if veil.any():
        veil = veil & np.isfinite(found.values)
    return Heatmap(
        values=found.values,
        row_labels=tuple(map(labels.__getitem__, queries.tolist())),
        column_labels=tuple(map(labels.__getitem__, keys.tolist())),
        low=0.0,
        high=1.0,
        unit="attention weight",
        overlay=veil if veil.any() else None,
        scale="sqrt",
    )


def _hidden(plan: Plan, found: Assembled, share: float) -> np.ndarray:
    """Cells of which the mask lets nothing through: by the pattern; by the weights where it is too fine or content decides.

    share: the head's place among all, from 0 on; negative is all of them.
    """
    if plan.surely == FULL:
        return np.zeros((1, 1), bool)
    queries, keys = found.starts()
    if plan.chosen or (found.block > 1 and not isinstance(plan.surely, Reach)):
        return np.asarray(found.values == 0)
    last_queries, last_keys = queries + found.block - 1, keys + found.block - 1
    corners = ((queries, keys), (queries, last_keys), (last_queries, last_keys))
    hidden: np.ndarray = ~np.logical_or.reduce([plan.surely.allowed(some, others) for some, others in corners])
    if hidden.ndim == 3:
        return np.asarray(hidden.all(0) if share < 0 else hidden[int(share * len(hidden) + 1e-9)])
    return hidden


def _heads(trace: Trace, layer: int) -> int:
    return next((len(one.weights) for one in trace.attention.get(layer, ())), 0)


def _plan(trace: Trace, layer: int) -> Plan:
    if trace.started is None or layer >= trace.started.info.layers:
        return Plan(FULL, FULL)
    return plans(trace.started.config, trace.started.info)[layer]


def _coverage(trace: Trace, found: Assembled | None, layer: int) -> tuple[str, ...]:
    """What the map leaves out, and what is veiled."""
    if found is None:
        return ()
    missing = int(np.isnan(found.values[:, 0]).sum())
    notes = []
    if found.first:
        notes.append(f"queries 0 to {found.first - 1} were not captured")
    if missing:
        notes.append(f"{counted(missing, 'query' if found.block == 1 else 'row')} in between not captured")
    if trace.capture_ended is not None and found.end < len(trace.prompt_tokens) + len(trace.tokens) - 1:
        notes.append(f"captured up to query {found.end - 1}: {trace.capture_ended.message}")
    if found.block > 1:
        notes.append(f"a cell is the largest weight of {found.block} × {found.block} tokens")
    plan = _plan(trace, layer)
    if plan.surely == FULL and not found.absent.any():
        return tuple(notes)
    hidden = "were not chosen" if plan.chosen else "are hidden by the mask"
    return (*notes, f"veiled cells {hidden} or no longer in the cache")


def _empty(trace: Trace, layer: int) -> str:
    if trace.attention:
        return f"Layer {layer} was not captured; choose one of {', '.join(map(str, sorted(trace.attention)))}."
    return "Turn on Inspect and run: here each token shows which earlier tokens it looked at, layer by layer and head by head."
