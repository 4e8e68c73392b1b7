"""What a technique leaves unread of the cache in decoding, and what that really saves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from core.attention.mask import Reach
from core.attention.patterns import plans
from core.attention.reading import Reading, reading_of
from core.charts.chart import Cell, Chart, Table
from core.charts.labelled import Labelled, capture_notes, ending_notes, prefix
from core.trace import Trace

# Where work falls by less than what is hidden, and why.
LIMITS = {
    "topk": "topk computes every score before it can choose: only the sums of values shrink",
    "lsh": "lsh compares the buckets of all keys; heads that share a KV head read together what any of them sees, and the rows "
    "of a prompt fill all buckets between them, so a prompt is masked and nothing is skipped",
    "block_topk": "block_topk reads a summary of each block beside the chosen blocks; in a prompt, 64 rows read what any chose",
}
_MOST_QUERIES = 64  # of a run that are counted, evenly picked
_COLUMNS = (
    "configuration", "technique", "keys present", "keys seen", "rows read, modelled", "attention (ms/token)",
    "of full attention, modelled", "of full attention, measured",
)  # fmt: skip


def attention_saving(traces: Labelled) -> Chart:
    """Keys seen of keys present, and the time of attention, a row a configuration."""
    ran = [(label, trace) for label, trace in traces if trace.started is not None and _times(trace).size]
    full = next((_median(trace) for _, trace in ran if _is_full(trace)), None)
    rows = tuple(_row(label, trace, full) for label, trace in ran)
    return Chart(
        name="attention_saving",
        title="Attention: read and saved",
        badge="derived",
        definition="Means over decoded tokens, layers and heads. Present: keys that full attention would see. Read: rows of "
        "keys and values fetched for one token, summaries included (modelled). Attention is the median measured time of a "
        "token, with its projections.",
        listing=Table(_COLUMNS, rows),
        notes=(*_notes(ran, full), *capture_notes(ran), *ending_notes(ran)),
        empty="Run: here stands how much of the cache attention reads for a token, and what leaving the rest out saves.",
    )


def _row(label: str, trace: Trace, full: float | None) -> tuple[Cell, ...]:
    assert trace.started is not None
    time = _median(trace)
    found = _reading(trace)
    if found is None:
        counted: tuple[Cell, ...] = (_mean(_present(trace)), _captured(trace), None)
        share = None
    else:
        counted = _mean(found.present), _mean(found.seen), _mean(found.read)
        share = _mean(found.read / found.present)
    return (label, trace.started.config.attention.name, *counted, time, share, None if full is None else time / full)


def _reading(trace: Trace) -> Reading | None:
    """Of the decoded tokens, as means over layers; None where the content decides."""
    assert trace.started is not None
    config, info = trace.started.config, trace.started.info
    queries, windows = _queries(trace), info.sliding_windows or (0,) * info.layers
    layers = list(zip(plans(config, info), windows, strict=True))
    known = {one: reading_of(config.attention, one[0], queries, Reach(0, one[1] or None)) for one in set(layers)}
    found = [reading for one in layers if (reading := known[one]) is not None]
    if len(found) < len(layers):
        return None
    return Reading(*(np.mean([getattr(one, part) for one in found], 0) for part in ("present", "seen", "read")))


def _present(trace: Trace) -> np.ndarray:
    return _queries(trace) + 1


def _captured(trace: Trace) -> float | None:
    """Keys seen, counted in the captured weights."""
    counts = [(one.weights > 0).sum(-1).mean() for maps in trace.attention.values() for one in maps if one.step >= 0]
    return float(np.mean(counts)) if counts else None


def _queries(trace: Trace) -> np.ndarray:
    """Positions of decoded tokens that were fed, evenly picked."""
    first, count = len(trace.prompt_tokens), max(1, len(trace.tokens) - 1)
    picked: np.ndarray = np.unique(np.linspace(first, first + count - 1, min(count, _MOST_QUERIES)).astype(np.int64))
    return picked


def _times(trace: Trace) -> np.ndarray:
    """Milliseconds of attention a token, of each decode step that tells it."""
    return np.array([time / max(1, len(step.tokens)) for step in trace.steps if (time := _attention(step.phases)) is not None])


def _attention(phases: dict[str, float]) -> float | None:
    return phases.get("decode.attention", phases.get("verify.attention"))


def _median(trace: Trace) -> float:
    return float(np.median(_times(trace)))


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def _is_full(trace: Trace) -> bool:
    return trace.started is not None and trace.started.config.attention.name == "full"


def _notes(ran: Labelled, full: float | None) -> Iterator[str]:
    if ran and full is None:
        yield "run another configuration with attention.name=full to have the measured saving beside the modelled one"
    for label, trace in ran:
        name = trace.started.config.attention.name if trace.started is not None else ""
        if name in LIMITS:
            yield prefix(ran, label) + LIMITS[name]
        if full is not None and name != "full" and _median(trace) >= full:
            yield f"{prefix(ran, label)}{name} was not faster than full attention here"
