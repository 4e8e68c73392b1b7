"""The attention of every captured layer and head at once, as small maps side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.charts.chart import Chart, Heatmap
from core.charts.labelled import Labelled, ending_notes
from core.events import AttentionCaptured
from core.trace import Trace

MOST_TILE = 32  # cells along each side of a small map


class HeadMaps:
    """Follows a trace: for each layer the largest weights [H, n, n] of blocks of `block` queries and keys."""

    def __init__(self) -> None:
        self.maps: dict[int, np.ndarray] = {}  # NaN where nothing was captured
        self.block = 1
        self.end = 0
        self._taken: dict[int, int] = {}

    def take(self, trace: Trace) -> None:
        for layer, passes in trace.attention.items():
            for one in passes[self._taken.get(layer, 0) :]:
                if one.weights.size:
                    self._add(layer, one)
            self._taken[layer] = len(passes)

    def _add(self, layer: int, one: AttentionCaptured) -> None:
        heads, rows, _ = one.weights.shape
        self.end = max(self.end, one.first_query + rows)
        while self.end > self.block * MOST_TILE:
            self.block *= 2
            self.maps = {at: _halved(held) for at, held in self.maps.items()}
        held = self.maps.setdefault(layer, np.full((heads, MOST_TILE, MOST_TILE), np.nan, np.float32))
        weights = one.weights.astype(np.float32)
        weights, columns = _pooled(weights, one.key_positions // self.block, 2)
        weights, lines = _pooled(weights, np.arange(one.first_query, one.first_query + rows) // self.block, 1)
        for line in lines.tolist():
            np.fmax(held[:, line, : line + 1], 0, out=held[:, line, : line + 1])
        cells = np.ix_(np.arange(heads), lines, columns)
        past = columns[None, :] <= lines[:, None]
        held[cells] = np.where(past, np.fmax(held[cells], weights), held[cells])

    @property
    def cells(self) -> int:
        """Blocks up to the last query."""
        return -(-self.end // self.block)


def attention_grid(traces: Labelled) -> Chart:
    """Small maps of the first trace, a row of them a head, a column a layer."""
    trace = traces[0][1] if traces else Trace()
    found = trace.follow(HeadMaps)
    return Chart(
        name="attention_grid",
        title="Attention of every head",
        badge="measured",
        definition="A map for each head (row) and layer (column): queries downwards, keys to the right, each cell the largest "
        "weight in its block of tokens. Open one with a double click.",
        x_label="layer",
        y_label="head",
        heatmap=_heatmap(found) if found.maps else None,
        notes=(*_notes(found), *ending_notes(traces[:1])),
        empty="Turn on Inspect and run: here the maps of all layers and heads stand side by side.",
    )


def tile_of(chart: Chart, row: int, column: int) -> tuple[int, int]:
    """The layer and head whose small map holds a cell."""
    assert chart.heatmap is not None
    assert chart.heatmap.tiles is not None
    (heads, layers), (rows, columns) = chart.heatmap.tiles, chart.heatmap.values.shape
    return int(layers[column * len(layers) // columns]), int(heads[row * len(heads) // rows])


def _heatmap(found: HeadMaps) -> Heatmap:
    """Each small map is followed by an empty row and column."""
    layers, size = sorted(found.maps), found.cells
    heads = len(found.maps[layers[0]])
    tiles = np.full((heads, size + 1, len(layers), size + 1), np.nan, np.float32)
    for place, layer in enumerate(layers):
        tiles[:, :size, place, :size] = found.maps[layer][:, :size, :size]
    spans = [_span(found, cell) for cell in range(size)] + ["end"]
    return Heatmap(
        values=tiles.reshape(heads * (size + 1), len(layers) * (size + 1)),
        row_labels=tuple(f"{head}, query {span}" for head in range(heads) for span in spans),
        column_labels=tuple(f"{layer}, key {span}" for layer in layers for span in spans),
        low=0.0,
        high=1.0,
        unit="attention weight",
        scale="sqrt",
        tiles=(tuple(map(str, range(heads))), tuple(map(str, layers))),
    )


def _span(found: HeadMaps, cell: int) -> str:
    first, last = cell * found.block, min((cell + 1) * found.block, found.end) - 1
    return str(first) if first == last else f"{first} to {last}"


def _notes(found: HeadMaps) -> tuple[str, ...]:
    return (f"a cell is {found.block} × {found.block} tokens",) if found.block > 1 else ()


def _pooled(weights: np.ndarray, places: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest weight along `axis` of those at the same place, and the places."""
    order: Sequence[int] | np.ndarray = np.argsort(places, kind="stable")
    found, starts = np.unique(places[order], return_index=True)
    return np.maximum.reduceat(np.take(weights, order, axis), starts, axis), found


def _halved(held: np.ndarray) -> np.ndarray:
    """Blocks of twice the size."""
    heads, n, _ = held.shape
    folded = np.full_like(held, np.nan)
    folded[:, : n // 2, : n // 2] = np.fmax.reduce(held.reshape(heads, n // 2, 2, n // 2, 2), (2, 4))
    return folded
