"""KV cache: which token is kept where, in how many bits, what was dropped and why, what it takes, and for how many heads."""

from __future__ import annotations

from collections.abc import Hashable

from PySide6.QtWidgets import QWidget

from core.charts.cache_map import cache_evictions, cache_map, cache_slots
from core.charts.chart import Chart
from core.charts.heads import bytes_of, groups_of, heads_bytes, heads_groups
from core.charts.memory import kv_per_token, kv_tokens
from core.config import RunConfig
from core.models.info import ModelInfo
from core.trace import Trace
from widgets.docks.panel import DockPanel
from widgets.docks.selector import Selector, SelectorRow

_EVERY = -1
_NAMES = {
    "map": "Tokens", "slots": "Slots", "dropped": "Dropped", "tokens": "Count", "room": "Room a token", "groups": "KV heads",
    "heads": "Bytes a token",
}  # fmt: skip


class CacheDock(DockPanel):
    """One run's tokens pass by pass, its slots, heads or blocks, its dropped tokens; counts of all runs, and
    what a token takes in them.

    What KV heads or latents take of a token's bytes is shown of the configuration of `set_config` before a run.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(_NAMES, parent)
        self._planned: tuple[RunConfig | None, ModelInfo | None] = None, None
        self.which = Selector("Run", self.redraw)
        self.layer = Selector("Layer", self.redraw)
        self.column.insertWidget(0, SelectorRow(self.which, self.layer))
        self.prepare()

    def set_config(self, config: RunConfig, info: ModelInfo | None) -> None:
        """What a run would use now."""
        self._planned = config, info
        self.refresh()

    def _state(self) -> Hashable:
        return super()._state(), self._planned[0], id(self._planned[1])

    def prepare(self) -> None:
        labels = [label for label, _ in self.traces]
        self.which.set_values(labels, labels)
        self.which.setVisible(len(labels) > 1)
        layers = self._layers()
        self.layer.set_values((_EVERY, *layers), ("mean of all", *map(str, layers)))
        self.layer.setVisible(bool(layers) and bool({"map", "slots"} & set(self.deck.shown)))

    def chart_of(self, key: str) -> Chart:
        one = [(str(self.which.value or "A"), self._trace())]
        layer = None if self.layer.number(_EVERY) == _EVERY else self.layer.number(_EVERY)
        match key:
            case "tokens":
                return kv_tokens(self.traces)
            case "room":
                return kv_per_token(self.traces)
            case "dropped":
                return cache_evictions(one)
            case "groups":
                return heads_groups(one) if self._has_run else groups_of(*self._planned)
            case "heads":
                return heads_bytes(one) if self._has_run else bytes_of(*self._planned)
            case _:
                return (cache_map if key == "map" else cache_slots)(one, layer=layer)

    @property
    def _has_run(self) -> bool:
        return self._trace().started is not None

    def _layers(self) -> list[int]:
        """Layers whose heads hold different tokens."""
        return sorted({int(layer) for change in self._trace().cache[-1:] for layer in change.layers if layer >= 0})

    def _trace(self) -> Trace:
        """The chosen run, or the first one."""
        chosen = [trace for label, trace in self.traces if label == self.which.value]
        return (chosen or [trace for _, trace in self.traces] or [Trace()])[0]
