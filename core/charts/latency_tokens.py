"""How long each generated token took, over its index and as a histogram."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from core.charts.chart import Chart, Series
from core.charts.labelled import Labelled, capture_notes, columns, ending_notes, prefix
from core.trace import Trace

_BINS = (8, 40)
_FIRST = "the first token is left out: its time includes the prefill"


@dataclass(frozen=True)
class Chunks:
    """Tokens given out together, after the first: generated index of the first, ms since the last chunk, tokens in it."""

    index: np.ndarray
    ms: np.ndarray
    tokens: np.ndarray

    @property
    def speculative(self) -> bool:
        return bool((self.tokens > 1).any())


class _Chunks:
    """Of every step that yielded tokens, the first one too: generated index, ms and tokens, as they come."""

    def __init__(self) -> None:
        self._taken = self._tokens = 0
        self.rows: list[tuple[int, float, int]] = []

    def take(self, trace: Trace) -> None:
        for step in trace.steps[self._taken :]:
            if step.tokens:
                self.rows.append((self._tokens, sum(token.ms for token in step.tokens), len(step.tokens)))
                self._tokens += len(step.tokens)
        self._taken = len(trace.steps)


def chunks(trace: Trace) -> Chunks:
    """One entry a decoding step that yielded tokens."""
    rows = trace.follow(_Chunks).rows[1:]
    index, ms, tokens = zip(*rows) if rows else ((), (), ())
    return Chunks(np.array(index, int), np.array(ms, float), np.array(tokens, int))


def latency_tokens(traces: Labelled) -> Chart:
    """ms of each token after the first, counted from 1; under speculation also ms of each step."""
    return Chart(
        name="latency_tokens",
        title="Time of each token",
        badge="derived" if any(chunks(trace).speculative for _, trace in traces) else "measured",
        definition="Time since the tokens before. Several tokens of one pass share its time alike; a pass is shown apart.",
        x_label="generated token",
        y_label="time (ms)",
        series=tuple(series for label, column, trace in columns(traces) for series in _lines(label, column, chunks(trace))),
        notes=_notes(traces),
        empty="Run: here every token shows how long it took.",
    )


def _lines(label: str, column: int, found: Chunks) -> Iterator[Series]:
    if not found.ms.size:
        return
    number = np.concatenate([1 + start + np.arange(count) for start, count in zip(found.index, found.tokens)])
    yield Series(f"{label}, a token", number, np.repeat(found.ms / found.tokens, found.tokens), "line", column)
    if found.speculative:
        yield Series(f"{label}, a pass", 1 + found.index, found.ms, "scatter", column)


def latency_histogram(traces: Labelled) -> Chart:
    """How often a gap between two streamed chunks lasted how long."""
    gaps = [(label, column, chunks(trace).ms) for label, column, trace in columns(traces)]
    filled = [ms for _, _, ms in gaps if ms.size]
    edges = _edges(np.concatenate(filled)) if filled else np.array([0.0, 1.0])
    return Chart(
        name="latency_histogram",
        title="Gaps between streamed chunks (ITL)",
        badge="measured",
        definition="How many gaps between two chunks fall in each bar; a pass over the weights gives one chunk of tokens.",
        x_label="gap (ms)",
        y_label="chunks",
        series=tuple(_bars(label, column, ms, edges) for label, column, ms in gaps if ms.size),
        notes=_notes(traces),
        empty="Run: here the gaps between tokens are counted by their length.",
    )


def _edges(ms: np.ndarray) -> np.ndarray:
    """Equal bins over all gaps, as many as the square root of their number."""
    count = int(np.clip(np.sqrt(ms.size), *_BINS))
    low, high = float(ms.min()), float(ms.max())
    return np.linspace(low, high if high > low else low + 1.0, count + 1)


def _bars(label: str, column: int, ms: np.ndarray, edges: np.ndarray) -> Series:
    counted = np.histogram(ms, edges)[0].astype(float)
    return Series(label, (edges[:-1] + edges[1:]) / 2, counted, "bar", column)


def _notes(traces: Labelled) -> tuple[str, ...]:
    spread = tuple(
        f"{prefix(traces, label)}{_spread(found)}" for label, _, t in columns(traces) if (found := chunks(t)).ms.size
    )
    first = (_FIRST,) if spread else ()
    return (*capture_notes(traces), *spread, *first, *ending_notes(traces))


def _spread(found: Chunks) -> str:
    mean = found.ms.sum() / found.tokens.sum()
    several = f", {found.tokens.sum() / found.tokens.size:.2f} tokens a pass" if found.speculative else ""
    median, late = np.quantile(found.ms, (0.5, 0.99))
    return f"gap median {median:.1f} ms, 99th percentile {late:.1f} ms, mean of a token {mean:.1f} ms{several}"
