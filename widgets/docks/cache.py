"""KV cache: which token is kept where, in how many bits, what was dropped and why, and how much it takes."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from core.charts.cache_map import cache_evictions, cache_map, cache_slots
from core.charts.chart import Chart
from core.charts.memory import kv_growth, kv_tokens
from core.trace import Trace
from widgets.docks.panel import DockPanel
from widgets.docks.selector import Selector, SelectorRow

_EVERY = -1
_NAMES = {"map": "Tokens", "slots": "Slots", "dropped": "Dropped", "tokens": "Count", "bytes": "Bytes"}


class CacheDock(DockPanel):
    """One run's tokens pass by pass, its slots, heads or blocks, its dropped tokens; counts and bytes of all runs."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(_NAMES, parent)
        self.which = Selector("Run", self.redraw)
        self.layer = Selector("Layer", self.redraw)
        self.column.insertWidget(0, SelectorRow(self.which, self.layer))
        self.prepare()

    def prepare(self) -> None:
        labels = [label for label, _ in self.traces]
        self.which.set_values(labels, labels)
        self.which.setVisible(len(labels) > 1)
        layers = self._layers()
        self.layer.set_values((_EVERY, *layers), ("mean of all", *map(str, layers)))
        self.layer.setVisible(bool(layers) and bool({"map", "slots"} & set(self.deck.shown)))

    def chart_of(self, key: str) -> Chart:
        if key in ("tokens", "bytes"):
            return kv_tokens(self.traces) if key == "tokens" else kv_growth(self.traces)
        shown = [(str(self.which.value or "A"), self._trace())]
        if key == "dropped":
            return cache_evictions(shown)
        layer = self.layer.number(_EVERY)
        return (cache_map if key == "map" else cache_slots)(shown, layer=None if layer == _EVERY else layer)

    def _layers(self) -> list[int]:
        """Layers whose heads hold different tokens."""
        return sorted({int(layer) for change in self._trace().cache[-1:] for layer in change.layers if layer >= 0})

    def _trace(self) -> Trace:
        """The chosen run, or the first one."""
        chosen = [trace for label, trace in self.traces if label == self.which.value]
        return (chosen or [trace for _, trace in self.traces] or [Trace()])[0]
