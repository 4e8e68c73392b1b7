"""Which tokens the KV cache holds after each pass, in how many bits, which slot holds which, and why others were dropped."""

from __future__ import annotations

import numpy as np

from core.charts.cache_held import bits_by_position, held_after, of_layer, pass_name, passes
from core.charts.chart import Chart, Heatmap, Table
from core.charts.labelled import Labelled, counted, ending_notes
from core.events import CacheChanged
from core.export.numbers import shown
from core.trace import Trace

_MOST_ROWS, _MOST_COLUMNS, _LINE = 192, 512, 64
_EMPTY = "Inspect a run of the local engine: here every token stands with the bits that the cache keeps of it, pass by pass."
_KEEPS_NOTHING = "This cache keeps no token: every pass computes all of them again."


def cache_map(traces: Labelled, *, layer: int | None = None) -> Chart:
    """Passes × positions of the first trace. layer: one layer; the mean of all where None."""
    trace = traces[0][1] if traces else Trace()
    recorded = list(passes(trace))
    chosen = recorded[:: -(-len(recorded) // _MOST_ROWS)] if recorded else []
    rows = [bits_by_position(change, layer) for _, change in chosen]
    return Chart(
        name="cache_map",
        title="Tokens in the cache" if layer is None else f"Tokens in the cache, layer {layer}",
        badge="measured",
        definition="Bits of a stored number of each token (column) after each pass (row), scales included, averaged over the "
        "heads that hold it and those that do not: 0 is evicted everywhere.",
        x_label="token",
        y_label="pass",
        heatmap=_heatmap(trace, [pass_name(step) for step, _ in chosen], rows) if any(map(len, rows)) else None,
        notes=(*_state(trace), *ending_notes(traces[:1])),
        empty=_KEEPS_NOTHING if rows else _EMPTY,
    )


def _heatmap(trace: Trace, names: list[str], rows: list[np.ndarray]) -> Heatmap:
    tokens = max(len(row) for row in rows)
    block = -(-tokens // _MOST_COLUMNS)
    table = np.full((len(rows), -(-tokens // block)), np.nan)
    for index, row in enumerate(rows):
        starts = np.arange(0, len(row), block)
        table[index, : len(starts)] = np.add.reduceat(row, starts) / np.minimum(block, len(row) - starts)
    texts = trace.all_tokens
    labels = (f"{at} {texts[at].text.strip()}" if block == 1 and at < len(texts) else str(at) for at in range(0, tokens, block))
    return Heatmap(table, tuple(names), tuple(labels), 0.0, max(16.0, float(np.nanmax(table))), "bits")


def _state(trace: Trace) -> tuple[str, ...]:
    """Bytes here and elsewhere, and blocks, at the end of what was recorded."""
    if not trace.cache or not trace.steps:
        return ()
    last, step = trace.cache[-1], trace.steps[-1]
    notes = [f"{counted(step.kv_tokens, 'token')} held in {shown(step.kv_bytes, 'B')}"]
    if last.offloaded:
        on_gpu = trace.started is not None and trace.started.environment.get("device", "cpu") != "cpu"
        where = "in the host's memory" if on_gpu else "in a file"
        notes.append(f"{shown(last.offloaded, 'B')} {where} for the first {counted(last.tokens, 'token')}")
    if last.block_size:
        notes.append(f"{counted(len(last.blocks), 'block')} of {counted(last.block_size, 'token')}")
    return tuple(notes)


def cache_slots(traces: Labelled, *, layer: int | None = None, step: int | None = None) -> Chart:
    """Which token each slot of the first trace's cache holds after pass `step` (the last one where None)."""
    trace = traces[0][1] if traces else Trace()
    at = step if step is not None else trace.steps[-1].index if trace.steps else -1
    change = held_after(trace, at)
    return Chart(
        name="cache_slots",
        title=f"Slots after the {pass_name(at)}" if at < 0 else f"Slots after {pass_name(at)}",
        badge="measured",
        definition="Position of the token in each slot: a row a head where heads hold different tokens, a row a block where "
        f"the cache has blocks, else {_LINE} slots a row. The darker, the older the token.",
        x_label="slot",
        y_label="row",
        heatmap=None if change is None or not change.positions.size else _slot_heatmap(change, layer),
        notes=_state(trace),
        empty=_EMPTY if change is None else _KEEPS_NOTHING,
    )


def _slot_heatmap(change: CacheChanged, layer: int | None) -> Heatmap:
    rows = of_layer(change, layer)
    if len(rows) > 1:
        shown_rows = change.layers == layer if layer is not None and (change.layers == layer).any() else change.layers >= -1
        names = _head_names(change.layers[shown_rows])
        table, labels = rows.astype(float), range(rows.shape[1])
    else:
        line = change.block_size or _LINE
        table, labels = _lines(rows[0], line), range(line)
        starts = change.blocks if change.block_size else range(0, rows.shape[1], line)
        names = tuple(f"block {start}" if change.block_size else f"from {start}" for start in starts)[: len(table)]
    every = -(-table.shape[1] // _MOST_COLUMNS)
    table = np.where(table < 0, np.nan, table)[:, ::every]
    return Heatmap(table, names, tuple(map(str, labels))[::every], 0.0, max(1.0, change.tokens - 1.0), "position")


def _lines(positions: np.ndarray, line: int) -> np.ndarray:
    """[S] as rows of `line`, NaN at the end."""
    padded = np.full(-(-len(positions) // line) * line, np.nan)
    padded[: len(positions)] = positions
    return padded.reshape(-1, line)


def _head_names(layers: np.ndarray) -> tuple[str, ...]:
    heads = [int((layers[:row] == layer).sum()) for row, layer in enumerate(layers)]
    return tuple(f"layer {layer} head {head}" for layer, head in zip(layers, heads, strict=True))


def cache_evictions(traces: Labelled) -> Chart:
    """Tokens that the first trace's cache dropped, when, and why."""
    trace = traces[0][1] if traces else Trace()
    rows = tuple(_dropped(trace))
    return Chart(
        name="cache_evictions",
        title="Dropped tokens",
        badge="measured",
        definition="Tokens that no longer are in every head: after which pass the first head dropped them, the share of heads "
        "that still hold them, and why the cache drops tokens.",
        notes=(f"{counted(len(rows), 'token')} dropped in some head at least",) if trace.cache else (),
        listing=Table(("position", "token", "dropped after", "heads that hold it (%)", "why"), rows),
        empty="No token was dropped."
        if trace.cache
        else "Inspect a run with a cache that drops tokens, such as sinks, h2o or snapkv.",
    )


def _dropped(trace: Trace) -> list[tuple[str | float | int | None, ...]]:
    share = np.zeros(0)
    when: dict[int, int] = {}
    for step, change in passes(trace):
        now = np.bincount(change.positions[change.positions >= 0], minlength=change.tokens) / max(1, len(change.positions))
        fell = np.flatnonzero(now[: len(share)] < np.minimum(1, share)) if step >= 0 else np.flatnonzero(now < 1)
        for position in fell.tolist():
            when.setdefault(position, step)
        share = now
    texts = dict(enumerate(token.text for token in trace.all_tokens))
    reason = trace.cache[-1].reason if trace.cache else ""
    return [
        (position, repr(texts.get(position, ""))[1:-1], pass_name(step), round(100 * float(share[position]), 1), reason)
        for position, step in sorted(when.items())
    ]
