"""Experts: which expert took which token, and how evenly the experts of each layer are used."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from core.charts.chart import Chart
from core.charts.experts import expert_load, expert_routing
from core.trace import Trace
from widgets.docks.panel import DockPanel
from widgets.docks.selector import Selector, SelectorRow


class ExpertsDock(DockPanel):
    """Routing map of one layer, and the load over all layers."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__({"routing": "Routing", "load": "Load"}, parent)
        self.which = Selector("Run", self.redraw)
        self.layer = Selector("Layer", self.redraw)
        self.column.insertWidget(0, SelectorRow(self.which, self.layer))
        self.prepare()

    def prepare(self) -> None:
        labels = [label for label, trace in self.traces if trace.routing]
        self.which.set_values(labels, labels)
        self.which.setVisible(len(labels) > 1)
        layers = sorted(self._trace().routing)
        self.layer.set_values(layers, tuple(map(str, layers)))
        self.layer.setVisible(bool(layers))

    def chart_of(self, key: str) -> Chart:
        shown = [(str(self.which.value or "A"), self._trace())]
        if key == "load":
            return expert_load(shown)
        return expert_routing(shown, layer=self.layer.number() if self._trace().routing else None)

    def _trace(self) -> Trace:
        """The chosen run, or the first one."""
        chosen = [trace for label, trace in self.traces if label == self.which.value]
        return (chosen or [trace for _, trace in self.traces] or [Trace()])[0]
