"""Memory: weights, keys and values, activations and draft against what is free, and the cache as it grows."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from core.charts.chart import Chart
from core.charts.memory import kv_context, memory
from widgets.docks.panel import DockPanel


class MemoryDock(DockPanel):
    """A stacked bar a configuration, and its cache against the context."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__({"parts": "Held", "context": "Against context"}, parent)

    def chart_of(self, key: str) -> Chart:
        return memory(self.traces) if key == "parts" else kv_context(self.traces)
