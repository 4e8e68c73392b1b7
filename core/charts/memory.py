"""Bytes held by a run: weights, keys and values, activations and draft against the budget, and the cache as it grows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from core.charts.chart import Chart, Series
from core.charts.labelled import Labelled, columns, counted, ending_notes, prefix
from core.events import Memory
from core.export.numbers import shown
from core.trace import Trace

_PARTS = {"weights": "weights", "kv": "KV cache", "activations": "activations", "draft": "draft model"}


def memory(traces: Labelled) -> Chart:
    """A stacked bar a configuration, its peak as a point and the budget as a line."""
    known = [(label, column, found) for label, column, trace in columns(traces) if (found := held(trace)) is not None]
    return Chart(
        name="memory",
        title="Memory",
        badge="measured",
        definition="Bytes held at the end of the run. Peak: highest resident memory of the engine process, libraries included. "
        "Budget: memory the process may still use, and what it uses.",
        y_label="memory (B)",
        series=tuple(_series(known)),
        categories=tuple(label for label, _, _ in known),
        notes=(*_unknown(traces, known), *ending_notes(traces)),
        empty="Run: here the bytes of weights, keys and values, and activations stand against what is free.",
    )


def held(trace: Trace) -> Memory | None:
    """What the run held at its end; while it runs, what is known of it so far."""
    if trace.finished is not None:
        return trace.finished.memory
    if trace.loaded is None:
        return None
    return Memory(trace.loaded.weight_bytes, trace.steps[-1].kv_bytes if trace.steps else 0, None, 0, None, None)


def _series(known: list[tuple[str, int, Memory]]) -> Iterator[Series]:
    places = np.arange(len(known))
    base = np.zeros(len(known))
    for name, label in _PARTS.items():
        y = _bytes(known, name)
        if (y > 0).any():
            yield Series(label, places, y, "bar", 0, name, base=base.copy())
        base += np.nan_to_num(y)
    yield from _levels(known, places)


def _levels(known: list[tuple[str, int, Memory]], places: np.ndarray) -> Iterator[Series]:
    peak, budget = _bytes(known, "peak"), _bytes(known, "budget")
    if np.isfinite(peak).any():
        yield Series("peak", places, peak, "scatter", 0, "peak")
    if np.isfinite(budget).any():
        levels = np.unique(budget[np.isfinite(budget)])
        yield Series("budget", np.zeros(levels.size), levels, "horizontal_line", 0, "budget")


def _bytes(known: list[tuple[str, int, Memory]], name: str) -> np.ndarray:
    values = [getattr(found, name) for _, _, found in known]
    return np.array([np.nan if value is None else value for value in values], float)


def _unknown(traces: Labelled, known: list[tuple[str, int, Memory]]) -> tuple[str, ...]:
    """What the platform does not tell."""
    lacks = {label: [name for name in ("activations", "peak", "budget") if getattr(m, name) is None] for label, _, m in known}
    return tuple(f"{prefix(traces, label)}{', '.join(names)} unavailable" for label, names in lacks.items() if names)


def kv_per_token(traces: Labelled) -> Chart:
    """Bytes held for keys and values after each step, over the tokens that they are of."""
    return Chart(
        name="kv_per_token",
        title="Room of a token in the KV cache",
        badge="derived",
        definition="Bytes held for keys and values after each pass / tokens held. It falls while room that was taken ahead "
        "fills, and where fewer bits are kept of more tokens; the Memory dock has the bytes themselves.",
        x_label="generated token",
        y_label="a token (B)",
        series=tuple(_room(label, column, trace) for label, column, trace in columns(traces) if trace.steps),
        notes=(*_ends(traces), *ending_notes(traces)),
        empty="Run: here stands what a token takes in the cache, step by step, with the room that is kept free for others.",
    )


def _room(label: str, column: int, trace: Trace) -> Series:
    """NaN where states are held, and no tokens."""
    held = np.array([step.kv_tokens or np.nan for step in trace.steps], float)
    return Series(label, _made(trace), np.array([step.kv_bytes for step in trace.steps], float) / held, "step", column)


def kv_context(traces: Labelled) -> Chart:
    """Bytes held for keys, values and states against the tokens that have been read."""
    return Chart(
        name="kv_context",
        title="Cache against context",
        badge="measured",
        definition="Bytes held for keys, values and the states of attention without keys, over the tokens of prompt and answer "
        "that have been read. One point a pass; the first is the whole prompt.",
        x_label="tokens read",
        y_label="cache (B)",
        series=tuple(_against_context(label, column, trace) for label, column, trace in columns(traces) if trace.steps),
        notes=(*_ends(traces), *ending_notes(traces)),
        empty="Run two or more configurations: here the memory of each grows with the context, or stays.",
    )


def _against_context(label: str, column: int, trace: Trace) -> Series:
    read = len(trace.prompt_tokens) - 1 + _made(trace)
    return Series(label, read, np.array([step.kv_bytes for step in trace.steps], float), "line", column)


def kv_tokens(traces: Labelled) -> Chart:
    """Tokens whose keys and values are held after each step."""
    return Chart(
        name="kv_tokens",
        title="Tokens in the KV cache",
        badge="measured",
        definition="Tokens whose keys and values are held after each pass, over the tokens generated so far.",
        x_label="generated token",
        y_label="tokens",
        series=tuple(_count(label, column, trace) for label, column, trace in columns(traces) if trace.steps),
        notes=(*_ends(traces), *ending_notes(traces)),
        empty="Run: here the tokens in the cache are counted step by step, and what an eviction drops.",
    )


def _count(label: str, column: int, trace: Trace) -> Series:
    return Series(label, _made(trace), np.array([step.kv_tokens for step in trace.steps], float), "step", column)


def _made(trace: Trace) -> np.ndarray:
    """Tokens generated by the end of each step."""
    return np.cumsum([len(step.tokens) for step in trace.steps])


def _ends(traces: Labelled) -> tuple[str, ...]:
    ends = [(prefix(traces, label), trace.steps[-1]) for label, trace in traces if trace.steps]
    return tuple(f"{start}{counted(step.kv_tokens, 'token')} in {shown(step.kv_bytes, 'B')} at the end" for start, step in ends)
