"""Which expert took which token, and how evenly the experts of each layer were used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.charts.chart import Chart, Heatmap
from core.charts.labelled import Labelled, ending_notes, token_labels
from core.events import RoutingCaptured
from core.trace import Trace

_HOW = "Choose ffn.name=moefy or a mixture-of-experts model, turn on Inspect and run: here "


def expert_routing(traces: Labelled, *, layer: int | None = None) -> Chart:
    """Experts × tokens of one layer of the first trace: the router's weight. layer None is the first captured one."""
    trace = traces[0][1] if traces else Trace()
    layer = min(trace.routing, default=0) if layer is None else layer
    weights = routed(trace.routing.get(layer, ()), len(trace.all_tokens))
    return Chart(
        name="expert_routing",
        title=f"Expert routing, layer {layer}",
        badge="measured",
        definition="Weight the router gives to each expert (row) for each token (column); 0 where the expert is not used.",
        x_label="token",
        y_label="expert",
        heatmap=None if weights is None else _routing_map(trace, weights),
        notes=ending_notes(traces[:1]),
        empty=_empty(trace, layer),
    )


def routed(routes: Sequence[RoutingCaptured], length: int) -> np.ndarray | None:
    """[E, tokens] router weights, by position; NaN where nothing was captured, None when there is nothing at all."""
    routes = [route for route in routes if route.experts.size and 0 <= route.first_token < length]
    if not routes:
        return None
    count = max(max(route.expert_count for route in routes), 1 + max(int(route.experts.max()) for route in routes))
    end = min(length, max(route.first_token + len(route.experts) for route in routes))
    weights = np.full((end, count), np.nan, np.float32)
    for route in routes:
        rows = slice(route.first_token, min(end, route.first_token + len(route.experts)))
        kept = rows.stop - rows.start
        weights[rows] = 0.0
        np.put_along_axis(weights[rows], route.experts[:kept].astype(np.int64), route.weights[:kept].astype(np.float32), 1)
    return weights.T


def _routing_map(trace: Trace, weights: np.ndarray) -> Heatmap:
    experts = tuple(map(str, range(len(weights))))
    high = max(1.0, float(np.nanmax(weights)))
    return Heatmap(weights, experts, token_labels(trace)[: weights.shape[1]], 0.0, high, "router weight")


def expert_load(traces: Labelled) -> Chart:
    """Layers × experts of the first trace: the share of the layer's choices that fell on each expert."""
    trace = traces[0][1] if traces else Trace()
    loads = {layer: load for layer in sorted(trace.routing) if (load := _load(trace, layer)) is not None}
    return Chart(
        name="expert_load",
        title="Expert load",
        badge="derived",
        definition="Share of a layer's token-to-expert choices that fell on each expert; a row sums to 100 %.",
        x_label="expert",
        y_label="layer",
        heatmap=_load_map(loads) if loads else None,
        notes=(*_balance(loads), *ending_notes(traces[:1])),
        empty=f"{_HOW}each layer shows how evenly its experts are used.",
    )


def _load(trace: Trace, layer: int) -> np.ndarray | None:
    """[E] in percent, over the tokens that stand."""
    length = len(trace.all_tokens)
    routes = [route for route in trace.routing[layer] if 0 <= route.first_token < length]
    chosen = np.concatenate([route.experts[: length - route.first_token].ravel() for route in routes] or [np.zeros(0, int)])
    chosen = chosen[chosen >= 0]
    if not chosen.size:
        return None
    counts = np.bincount(chosen, minlength=max(route.expert_count for route in routes))
    return 100.0 * counts / chosen.size


def _load_map(loads: dict[int, np.ndarray]) -> Heatmap:
    width = max(len(load) for load in loads.values())
    rows = [np.pad(load, (0, width - len(load)), constant_values=np.nan) for load in loads.values()]
    values = np.stack(rows)
    return Heatmap(values, tuple(map(str, loads)), tuple(map(str, range(width))), 0.0, float(np.nanmax(values)), "%")


def _balance(loads: dict[int, np.ndarray]) -> tuple[str, ...]:
    """How far the most used expert is above an even share."""
    if not loads:
        return ()
    layer, load = max(loads.items(), key=lambda item: item[1].max() * len(item[1]))
    even = 100.0 / len(load)
    return (
        f"an even load is {even:.1f} %; the most loaded is expert {load.argmax()} of layer {layer} with {load.max():.1f} %",
    )


def _empty(trace: Trace, layer: int) -> str:
    if trace.routing:
        return f"Layer {layer} has no experts; choose one of {', '.join(map(str, sorted(trace.routing)))}."
    return f"{_HOW}each token shows which experts it was sent to."
