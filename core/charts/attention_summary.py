"""What every head does, on one map of layers and heads: how spread its attention is and where it goes."""

from __future__ import annotations

import numpy as np

from core.attention.mask import FULL, Pattern, Reach
from core.attention.patterns import plans
from core.charts.attention_mass import masses
from core.charts.chart import Chart, Heatmap
from core.charts.labelled import Labelled, counted, ending_notes
from core.errors import BadInput
from core.events import AttentionCaptured
from core.trace import Trace

FIRST, LAST = 4, 64  # tokens at the start and at the end whose share is told
MEASURES = {
    "entropy": "Entropy of the attention weights, mean over the captured queries: 0 is one token, ln n is n tokens alike.",
    "first": f"Share of the attention weight on the first {FIRST} tokens (sinks), mean over the captured queries.",
    "last": f"Share of the attention weight on the {LAST} most recent tokens, mean over the captured queries.",
    "kept": "Attention mass kept, mean over the captured queries: the share of full attention on the keys that the technique "
    "lets through. Without such a technique, the share that the other configuration's pattern would keep.",
}


def attention_summary(traces: Labelled, *, measure: str = "entropy") -> Chart:
    """Layers × heads of the first trace. measure: `entropy`, `first`, `last` or `kept` (by its own technique, else by the
    second trace's pattern).
    """
    if measure not in MEASURES:
        raise BadInput(f"measure={measure}: there are {', '.join(MEASURES)}")
    trace = traces[0][1] if traces else Trace()
    own = measure == "kept" and any(masses(trace, layer) for layer in trace.attention)
    others = _patterns(traces) if measure == "kept" and not own else {}
    values = None if measure == "kept" and not own and not others else _values(trace, measure, others)
    return Chart(
        name="attention_summary",
        title=f"Attention by layer and head: {_TITLES[measure]}",
        badge="derived",
        definition=MEASURES[measure],
        x_label="head",
        y_label="layer",
        heatmap=None if values is None else _heatmap(trace, values, measure),
        notes=(*_notes(trace, measure), *ending_notes(traces[:1])),
        empty=_empty(trace, measure),
    )


_TITLES = {
    "entropy": "entropy", "first": f"weight on the first {FIRST} tokens", "last": f"weight on the last {LAST} tokens",
    "kept": "attention mass kept",
}  # fmt: skip


def _patterns(traces: Labelled) -> dict[int, Pattern]:
    """By layer, the pattern of the first other configuration that does not see everything whatever it is asked."""
    started = [trace.started for _, trace in traces[1:] if trace.started is not None]
    found = (plans(one.config, one.info) for one in started if one.config.attention.name != "full")
    other = next((plan for plan in found if not any(layer.chosen for layer in plan)), ())
    return {layer: plan.surely for layer, plan in enumerate(other)}


def _values(trace: Trace, measure: str, others: dict[int, Pattern]) -> np.ndarray | None:
    """[captured layers, H], by layer."""
    rows = [_layer(trace.attention[layer], measure, others.get(layer)) for layer in sorted(trace.attention)]
    return np.stack(rows) if rows else None


def _layer(maps: list[AttentionCaptured], measure: str, other: Pattern | None) -> np.ndarray:
    """[H], mean over all captured queries of a layer."""
    queries = np.array([one.weights.shape[1] for one in maps], float)
    means = np.stack([_entropy(one) if measure == "entropy" else _share(one, measure, other) for one in maps])
    mean: np.ndarray = (means * queries[:, None]).sum(0) / queries.sum()
    return mean


def _entropy(one: AttentionCaptured) -> np.ndarray:
    weights = one.weights.astype(np.float32)
    entropy: np.ndarray = -(weights * np.log(np.maximum(weights, 1e-12))).sum(-1).mean(1)
    return entropy


def _share(one: AttentionCaptured, measure: str, other: Pattern | None) -> np.ndarray:
    """Mean weight [H] on the cells that the measure adds up."""
    if measure == "kept" and other is None:
        kept = one.mass if one.mass is not None else np.ones(one.weights.shape[:2])
        return np.asarray(kept.mean(1, dtype=np.float32))
    cells = np.broadcast_to(_cells(one, measure, other or FULL).astype(np.float32), one.weights.shape)
    share: np.ndarray = np.einsum("hts,hts->ht", one.weights.astype(np.float32), cells).mean(1)
    return share


def _cells(one: AttentionCaptured, measure: str, other: Pattern) -> np.ndarray:
    """The cells [T, S], or [H, T, S] where heads differ, whose weight the measure adds up."""
    if measure == "first":
        return np.broadcast_to(one.key_positions < FIRST, one.weights.shape[1:])
    pattern = Reach(0, LAST) if measure == "last" else other
    cells: np.ndarray = pattern.allowed(_queries(one), one.key_positions)
    return np.repeat(cells, len(one.weights) // len(cells), 0) if cells.ndim == 3 else cells


def _queries(one: AttentionCaptured) -> np.ndarray:
    return np.arange(one.first_query, one.first_query + one.weights.shape[1])


def _heatmap(trace: Trace, values: np.ndarray, measure: str) -> Heatmap:
    layers = tuple(str(layer) for layer in sorted(trace.attention))
    heads = tuple(map(str, range(values.shape[1])))
    if measure == "entropy":
        return Heatmap(values, layers, heads, 0.0, max(1e-6, float(values.max())), "nats")
    return Heatmap(values, layers, heads, 0.0, 1.0, "share of attention weight")


def _notes(trace: Trace, measure: str) -> tuple[str, ...]:
    queries = sum(one.weights.shape[1] for maps in list(trace.attention.values())[:1] for one in maps)
    length = len(trace.all_tokens)
    short = (f"the text has {length} tokens, so the last {LAST} are all or most of it",) if length < 2 * LAST else ()
    return (f"{counted(queries, 'query')} captured", *(short if measure == "last" else ())) if queries else ()


def _empty(trace: Trace, measure: str) -> str:
    if trace.attention and measure == "kept":
        return (
            "Choose a sparse attention technique, such as window, here or in another configuration, and run: here each head "
            "shows how much of its attention that pattern keeps."
        )
    return "Turn on Inspect and run: here every layer and head shows how spread its attention is and where it goes."
