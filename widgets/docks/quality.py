"""Quality: what a text says of each configuration, what it still finds in one, and how far its output follows A's."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from core.charts.chart import Chart
from core.charts.needle import needle
from core.charts.quality import quality, quality_kl, quality_probability
from core.charts.quality_measured import quality_figures, quality_stream
from core.charts.uncertainty import entropy
from core.trace import Trace
from widgets.docks.panel import DockPanel
from widgets.docks.quality_panel import QualityPanel
from widgets.docks.selector import Selector, SelectorRow

_RUNS = {"agreement": quality, "kl": quality_kl, "probability": quality_probability, "entropy": entropy}
_NAMES = {
    "figures": "Measured", "stream": "Along the text", "needle": "Needle",
    "agreement": "Agreement", "kl": "KL divergence", "probability": "Probability", "entropy": "Entropy",
}  # fmt: skip
_STREAM = {"perplexity": "perplexity", "mean_kl": "KL divergence", "same_top1": "same top token"}
_NEEDLE = {"log_probability": "log-probability", "recall": "answers that hold it"}
_LEFT_TO_EXPORT = ("segments", "text")


class QualityDock(DockPanel):
    """`controls` asks for measurements; the charts show their results, and the agreement of the runs."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(dict(_NAMES), parent)
        self.controls = QualityPanel()
        self.which = Selector("Needles of", self.redraw)
        self.along = Selector("Along the text", self.redraw)
        self.along.set_values(tuple(_STREAM), tuple(_STREAM.values()))
        self.found = Selector("Needle", self.redraw)
        self.found.set_values(tuple(_NEEDLE), tuple(_NEEDLE.values()))
        self.deck["figures"].twin.hidden = _LEFT_TO_EXPORT
        self.column.insertWidget(0, self.controls)
        self.column.insertWidget(1, SelectorRow(self.which, self.along, self.found))
        self.prepare()

    def prepare(self) -> None:
        labels = [label for label, trace in self.traces if trace.needles]
        shown = self.deck.shown
        self.which.set_values(labels, labels)
        self.which.setVisible(len(labels) > 1 and "needle" in shown)
        self.along.setVisible("stream" in shown and any(trace.quality for _, trace in self.traces))
        self.found.setVisible("needle" in shown and bool(labels))

    def chart_of(self, key: str) -> Chart:
        if key == "stream":
            return quality_stream(self.traces, measure=str(self.along.value))
        if key == "needle":
            chosen = [one for one in self.traces if one[0] == self.which.value]
            return needle(chosen or [("A", Trace())], measure=str(self.found.value))
        return quality_figures(self.traces) if key == "figures" else _RUNS[key](self.traces)
