"""KV cache: how many tokens it holds and how many bytes these take."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from core.charts.chart import Chart
from core.charts.memory import kv_growth, kv_tokens
from widgets.docks.panel import DockPanel


class CacheDock(DockPanel):
    """Tokens held after each pass, so that what a cache drops is seen, and their bytes."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__({"tokens": "Tokens held", "bytes": "Bytes"}, parent)

    def chart_of(self, key: str) -> Chart:
        return kv_tokens(self.traces) if key == "tokens" else kv_growth(self.traces)
