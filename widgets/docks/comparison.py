"""Comparison: medians and intervals over interleaved repeats, and which differences are noise."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from PySide6.QtWidgets import QWidget

from core.charts.chart import Chart
from core.charts.comparison import COMPARISON_CHARTS
from core.compare import Comparison, summarise
from core.trace import Trace
from widgets.docks.panel import DockPanel

_TABS = {
    "comparison_ratios": "Relative to A", "comparison_ttft": "TTFT", "comparison_tpot": "TPOT",
    "comparison_memory": "Memory", "comparison_table": "All metrics",
}  # fmt: skip
_NOTHING = Comparison((), (), "", False)


class ComparisonDock(DockPanel):
    """Medians side by side; each repeat counts as soon as it is finished."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(dict(_TABS), parent)
        self._repeats: list[tuple[str, list[Trace]]] = []
        self._comparison = _NOTHING

    def set_repeats(self, columns: Sequence[tuple[str, list[Trace]]]) -> None:
        """The measured runs of each column, A first; the lists may go on growing."""
        self._repeats = list(columns)
        self.refresh()

    def _finished(self) -> list[list[Trace]]:
        """As many finished repeats of each column as every column has."""
        runs = [[trace for trace in repeats if trace.finished is not None] for _, repeats in self._repeats]
        fewest = min(map(len, runs), default=0)
        return [column[:fewest] for column in runs] if fewest else []

    def _state(self) -> Hashable:
        return tuple((label, *map(id, runs)) for (label, _), runs in zip(self._repeats, self._finished()))

    def prepare(self) -> None:
        runs = self._finished()
        self._comparison = summarise(runs) if runs else _NOTHING

    def chart_of(self, key: str) -> Chart:
        labels = [label for label, _ in self._repeats] if self._comparison is not _NOTHING else []
        return COMPARISON_CHARTS[key](self._comparison, labels)
