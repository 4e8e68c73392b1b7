"""Several charts in one dock: all of them where there is room, else one at a time behind tabs."""

from __future__ import annotations

from collections.abc import Mapping

from PySide6.QtCore import QSize, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QGridLayout, QTabBar, QVBoxLayout, QWidget

from core.charts.chart import Chart
from widgets.chart_view import ChartView
from widgets.theme import GRID

LEAST_WIDTH, LEAST_HEIGHT = 400, 250  # of one chart among others
MOST_COLUMNS = 3


class Deck(QWidget):
    """Chart views by the name of their tab, each made when it is first to be seen, which `made` tells with its key.

    `shown_changed`: another set of charts can be seen now.
    """

    made = Signal(str, ChartView)
    shown_changed = Signal()
    export_requested = Signal(object)

    def __init__(self, names: Mapping[str, str], parent: QWidget | None = None) -> None:
        """names: key of each chart to the text of its tab."""
        super().__init__(parent)
        self._keys = tuple(names)
        self._views: dict[str, ChartView] = {}
        self.tabs = QTabBar(self, drawBase=False, expanding=False)
        self.tabs.setAccessibleName("Charts of this dock")
        for text in names.values():
            self.tabs.addTab(text)
        self.tabs.setVisible(len(names) > 1)
        self._holder = QWidget()
        self._grid = QGridLayout(self._holder)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(GRID // 2)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.tabs)
        column.addWidget(self._holder, 1)
        self._columns = -1  # nothing is in its place yet
        self.tabs.currentChanged.connect(lambda _index: self._arrange(self._columns))

    def __getitem__(self, key: str) -> ChartView:
        if key not in self._views:
            view = self._views[key] = ChartView(parent=self._holder)
            view.export_requested.connect(self.export_requested)
            self.made.emit(key, view)
        return self._views[key]

    @property
    def shown(self) -> tuple[str, ...]:
        """Keys of the charts that can be seen."""
        return self._keys if self._columns > 0 else (self._keys[self.tabs.currentIndex()],)

    def title(self, key: str) -> str:
        """The text of a chart's tab."""
        return self.tabs.tabText(self._keys.index(key))

    def show_chart(self, key: str) -> None:
        """Bring a chart to the front."""
        self.tabs.setCurrentIndex(self._keys.index(key))

    def charts(self) -> list[Chart]:
        """The charts that can be seen, as they are."""
        return [self[key].chart for key in self.shown]

    def _arrange(self, columns: int) -> None:
        """All charts in so many columns; 0 is one at a time."""
        self._columns = columns
        self.tabs.setVisible(columns == 0 and len(self._keys) > 1)
        for view in self._views.values():
            self._grid.removeWidget(view)
            view.hide()
        for place, key in enumerate(self.shown):
            last_alone = columns > 1 and place == len(self._keys) - 1 and place % columns == 0
            self._grid.addWidget(self[key], *divmod(place, columns or 1), 1, columns if last_alone else 1)
        for key, view in self._views.items():
            view.setVisible(key in self.shown)  # asked each time: showing one may change the room, and so what is shown
        self.shown_changed.emit()

    def _room(self) -> int:
        """Columns in which all charts fit, 0 when they do not."""
        count = len(self._keys)
        columns = min(count, MOST_COLUMNS, self.width() // LEAST_WIDTH)
        fits = count > 1 and columns > 0 and -(-count // columns) * LEAST_HEIGHT <= self.height()
        return columns if fits else 0

    def minimumSizeHint(self) -> QSize:
        return QSize(240, 180)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if self._room() != self._columns:
            self._arrange(self._room())
