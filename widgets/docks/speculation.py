"""Speculation: every round with what was drafted, accepted and rejected, and the acceptance rate."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from core.charts.chart import Chart
from core.charts.speculation import acceptance, speculation_rounds, speculation_table
from widgets.chart_view import ChartView
from widgets.docks.panel import DockPanel
from widgets.docks.selector import Selector, SelectorRow

_LEFT_TO_EXPORT = ("step", "drafted", "drafted tokens", "accepted tokens")


class SpeculationDock(DockPanel):
    """Rounds as bars, as text with the rejected part struck through, and as a rate."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__({"rounds": "Rounds", "text": "Text", "rate": "Rate"}, parent)
        self.which = Selector("Rounds of", self.redraw)
        self.deck.made.connect(_set_up)
        self.column.insertWidget(0, SelectorRow(self.which))
        self.prepare()

    def prepare(self) -> None:
        labels = [label for label, trace in self.traces if trace.rounds]
        self.which.set_values(labels, labels)
        self.which.setVisible(len(labels) > 1)

    def chart_of(self, key: str) -> Chart:
        if key == "rate":
            return acceptance(self.traces)
        chosen = [one for one in self.traces if one[0] == self.which.value] or self.traces
        return speculation_rounds(chosen) if key == "rounds" else speculation_table(chosen)


def _set_up(key: str, view: ChartView) -> None:
    if key == "text":
        view.twin.hidden = _LEFT_TO_EXPORT
