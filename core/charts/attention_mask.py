"""The pattern of a configuration: which earlier tokens a query may see, drawn before anything runs."""

from __future__ import annotations

import numpy as np

from core.attention.mask import FULL, Pattern, Reach
from core.attention.patterns import pattern_of, patterns
from core.charts.chart import Chart, Heatmap
from core.charts.labelled import Labelled, token_labels
from core.config import RunConfig
from core.errors import BadInput

_MOST_CELLS = 256  # a side; longer texts are drawn in blocks
_UNRUN = 64  # tokens drawn when no length is known
_EMPTY = "Choose a configuration: its attention pattern is drawn here before the run."


def attention_mask(traces: Labelled, *, layer: int = 0) -> Chart:
    """The pattern that the first trace ran with, over its own tokens."""
    trace = traces[0][1] if traces else None
    if trace is None or trace.started is None:
        return _chart(layer, None, (), _EMPTY)
    labels = token_labels(trace)
    return pattern(trace.started.config, len(labels), layer=layer, layers=trace.started.info.layers, labels=labels)


def pattern(config: RunConfig, length: int = _UNRUN, *, layer: int = 0, layers: int = 0, labels: tuple[str, ...] = ()) -> Chart:
    """The pattern of `config` over `length` tokens, before a run. layers: how many the model has, 0 when it is not known.

    labels: one a token, else positions. Raises BadInput when `layer` or the technique's `layers` do not fit the model.
    """
    if layers and not 0 <= layer < layers:
        raise BadInput(f"layer={layer}: the model has layers 0 to {layers - 1}")
    reach = patterns(config.attention, layers)[layer] if layers else pattern_of(config.attention)
    notes = _notes(config, reach, layers)
    return _chart(layer, _heatmap(reach, cache_reach(config), max(1, length), labels), notes, _EMPTY)


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


def _heatmap(reach: Pattern, held: Reach, length: int, labels: tuple[str, ...]) -> Heatmap:
    """Cells of one token, or blocks: each row the block's middle query, each cell the share of its keys that are seen."""
    block = -(-length // _MOST_CELLS)
    starts = np.arange(0, length, block)
    queries = np.minimum(starts + block // 2, length - 1)
    keys = np.arange(length)
    seen = reach.allowed(queries, keys) & held.allowed(queries, keys)
    sizes = np.minimum(block, length - starts)
    shares = np.add.reduceat(seen.astype(np.float32), starts, axis=1) / sizes
    shares[starts[None, :] > queries[:, None]] = np.nan
    names = tuple(labels[start] if labels and block == 1 else str(start) for start in starts)
    return Heatmap(shares, names, names, 0.0, 1.0, "share of keys seen")


def _notes(config: RunConfig, reach: Pattern, layers: int) -> tuple[str, ...]:
    notes = []
    if layers and reach == FULL and config.attention.name != "full":
        notes.append(f"{config.attention.name} does not apply to this layer (layers={config.attention.options.layers})")
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
