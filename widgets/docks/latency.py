"""Latency: where the time of prefill and decoding goes, token by token and as a histogram."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from core.charts.chart import Chart
from core.charts.latency_phases import latency_phases
from core.charts.latency_tokens import latency_histogram, latency_tokens
from widgets.docks.panel import DockPanel
from widgets.docks.selector import Selector, SelectorRow

_PER = {"token": "a token", "step": "a pass", "run": "the whole run"}


class LatencyDock(DockPanel):
    """Phases of A against B, time of each token while it streams, and the gaps between chunks."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__({"phases": "Phases", "tokens": "Tokens", "gaps": "Gaps"}, parent)
        self.per = Selector("Phases by", self.redraw)
        self.per.set_values(tuple(_PER), tuple(_PER.values()))
        self.column.insertWidget(0, SelectorRow(self.per))

    def prepare(self) -> None:
        self.per.setEnabled("phases" in self.deck.shown)

    def chart_of(self, key: str) -> Chart:
        if key == "phases":
            return latency_phases(self.traces, per=str(self.per.value))
        return latency_tokens(self.traces) if key == "tokens" else latency_histogram(self.traces)
