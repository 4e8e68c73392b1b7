"""Quality of the run: tokens equal to A's, where they part, and how far the distributions are apart."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from core.charts.chart import Chart
from core.charts.quality import quality, quality_kl, quality_probability
from core.charts.uncertainty import entropy
from widgets.docks.panel import DockPanel

_CHARTS = {"agreement": quality, "kl": quality_kl, "probability": quality_probability, "entropy": entropy}


class QualityDock(DockPanel):
    """Agreement with A, a lower bound of the KL divergence, and how sure each run was."""

    def __init__(self, parent: QWidget | None = None) -> None:
        names = {"agreement": "Agreement", "kl": "KL divergence", "probability": "Probability", "entropy": "Entropy"}
        super().__init__(names, parent)

    def chart_of(self, key: str) -> Chart:
        return _CHARTS[key](self.traces)
