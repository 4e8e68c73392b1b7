"""The pattern of a configuration: which earlier tokens a query may see, drawn before anything runs."""

from __future__ import annotations

import numpy as np

from core.attention.mask import FULL, Pattern, Reach
from core.attention.patterns import Plan, plan_of, plans
from core.charts.attention_rows import MEAN
from core.charts.attention_saving import LIMITS
from core.charts.chart import Chart, Heatmap
from core.charts.labelled import Labelled, token_labels
from core.config import RunConfig
from core.errors import BadInput
from core.models.info import ModelInfo

_MOST_CELLS = 256  # a side; longer texts are drawn in blocks
_UNRUN = 64  # tokens drawn when no length is known
_EMPTY = "Choose a configuration: its attention pattern is drawn here before the run."


def attention_mask(traces: Labelled, *, layer: int = 0, head: int = MEAN) -> Chart:
    """The pattern that the first trace ran with, over its own tokens. head −1 is all heads."""
    trace = traces[0][1] if traces else None
    if trace is None or trace.started is None:
        return _chart(layer, None, (), _EMPTY)
    labels = token_labels(trace)
    return pattern(trace.started.config, len(labels), layer=layer, head=head, info=trace.started.info, labels=labels)


def pattern(
    config: RunConfig,
    length: int = _UNRUN,
    *,
    layer: int = 0,
    head: int = MEAN,
    info: ModelInfo | None = None,
    labels: tuple[str, ...] = (),
) -> Chart:
    """The pattern of `config` over `length` tokens, before a run, on the model `info` where that is known.

    labels: one a token, else positions. Raises BadInput when `layer`, `head` or the technique's `layers` do not fit the model.
    """
    if info is not None and not 0 <= layer < info.layers:
        raise BadInput(f"layer={layer}: the model has layers 0 to {info.layers - 1}")
    if info is not None and not MEAN <= head < info.query_heads:
        raise BadInput(f"head={head}: the model has heads 0 to {info.query_heads - 1}, and {MEAN} is all of them")
    plan = plans(config, info)[layer] if info is not None else plan_of(config.attention)
    share = head / info.query_heads if info is not None else MEAN
    heatmap = _heatmap(plan, cache_reach(config), max(1, length), labels, share)
    return _chart(layer, heatmap, _notes(config, plan, layer, info, head), _EMPTY)


def cache_reach(config: RunConfig) -> Reach:
    """What the cache still holds of the tokens before a query."""
    options = config.cache.options
    match config.cache.name:
        case "rolling":
            return Reach(0, options.window)
        case "sinks":
            return Reach(options.sinks, options.window)
        case _:
            return FULL


def _heatmap(plan: Plan, held: Reach, length: int, labels: tuple[str, ...], share: float) -> Heatmap:
    """Cells of one token, or blocks: each row the block's middle query, each cell the share of its keys that are seen."""
    block = -(-length // _MOST_CELLS)
    starts = np.arange(0, length, block)
    queries = np.minimum(starts + block // 2, length - 1)
    keys = np.arange(length)
    seen = _shares(plan.surely, queries, keys, share)
    if plan.chosen:
        seen = (seen + _shares(plan.possibly, queries, keys, share)) / 2
    if held != FULL:
        seen *= held.allowed(queries, keys)
    shares = np.add.reduceat(seen, starts, axis=1) / np.minimum(block, length - starts)
    shares[starts[None, :] > queries[:, None]] = np.nan
    names = tuple(labels[start] if labels and block == 1 else str(start) for start in starts)
    return Heatmap(shares, names, names, 0.0, 1.0, "share of keys seen")


def _shares(pattern: Pattern, queries: np.ndarray, keys: np.ndarray, share: float) -> np.ndarray:
    """Keys seen, float32 [T, S]: by the head at `share` of all heads, or by what part of them where it is negative."""
    seen: np.ndarray = pattern.allowed(queries, keys).astype(np.float32)
    if seen.ndim == 2:
        return seen
    return np.asarray(seen.mean(0) if share < 0 else seen[int(share * len(seen) + 1e-9)])


def differs_by_head(config: RunConfig) -> bool:
    """Whether heads of one layer have patterns of their own."""
    return config.attention.name == "bigbird" and config.attention.options.random_blocks > 0


def _notes(config: RunConfig, plan: Plan, layer: int, info: ModelInfo | None, head: int) -> tuple[str, ...]:
    name, notes = config.attention.name, []
    window = info.sliding_windows[layer] if info is not None and info.sliding_windows else 0
    own = Reach(0, window or None)
    if info is not None and plan.surely == own and name != "full":
        notes.append(
            f"{name} does not apply to this layer (layers={config.attention.options.layers}), or changes nothing in it"
        )
    elif name in LIMITS:
        notes.append(LIMITS[name])
    if window:
        notes.append(f"the model's own window in this layer is {window} tokens")
    if plan.chosen:
        notes.append(
            "a key at 0.5 is a candidate: which of them a query sees depends on the content, and a captured run shows it"
        )
    if head == MEAN and differs_by_head(config):
        notes.append("each KV head draws its own random blocks: choose a head to see one")
    if config.cache.name == "rolling":
        notes.append(f"the rolling cache holds {config.cache.options.window} tokens")
    if config.cache.name == "sinks":
        notes.append(f"the cache holds {config.cache.options.sinks} sinks and {config.cache.options.window} tokens")
    return tuple(notes)


def _chart(layer: int, heatmap: Heatmap | None, notes: tuple[str, ...], empty: str) -> Chart:
    return Chart(
        name="attention_mask",
        title=f"Attention pattern, layer {layer}",
        badge="derived",
        definition="Which keys (columns) a query (row) may see, from the configuration alone; later tokens are never seen.",
        x_label="key",
        y_label="query",
        heatmap=heatmap,
        notes=notes,
        empty=empty,
    )
