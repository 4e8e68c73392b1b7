"""What every dock shares: it repaints only when it can be seen and its runs have changed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence

from PySide6.QtCore import QSize, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from core.charts.chart import Chart
from core.trace import Trace
from widgets.docks.deck import Deck
from widgets.failed_chart import failed
from widgets.theme import GRID

LabelledTrace = tuple[str, Trace]


class DockPanel(QWidget):
    """A dock's content: `deck` holds its charts; subclasses say what each one shows.

    `export_requested` carries the chart whose Export… was chosen.
    """

    export_requested = Signal(object)

    def __init__(self, names: dict[str, str], parent: QWidget | None = None) -> None:
        """names: key of each chart to the text of its tab."""
        super().__init__(parent)
        self.traces: list[LabelledTrace] = []
        self._drawn: Hashable = None
        self.deck = Deck(names)
        self.deck.export_requested.connect(self.export_requested)
        self.deck.shown_changed.connect(self.redraw)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(GRID // 2, GRID // 2, GRID // 2, GRID // 2)
        self.column.setSpacing(GRID // 2)
        self.column.addWidget(self.deck, 1)

    @abstractmethod
    def chart_of(self, key: str) -> Chart:
        """The chart of one tab, from `traces` and the dock's selectors."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Bring selectors in line with the traces, before charts are made."""

    def set_traces(self, traces: Sequence[LabelledTrace]) -> None:
        """Show these runs, A first; the traces may go on growing."""
        self.traces = list(traces)
        self.refresh()

    def refresh(self) -> None:
        """Draw what changed. Returns at once while hidden or while no trace has a newer revision."""
        if self.isVisible() and not self.visibleRegion().isEmpty() and self._state() != self._drawn:  # behind a tab it is empty
            self._draw()

    def redraw(self) -> None:
        """Draw anew although the runs are the same: a selector was moved."""
        self._drawn = None
        self.refresh()

    def charts(self) -> list[Chart]:
        """The charts that can be seen now, for Export."""
        if self._state() != self._drawn:
            self._draw()
        return self.deck.charts()

    def _state(self) -> Hashable:
        return tuple((label, id(trace), trace.revision) for label, trace in self.traces)

    def _draw(self) -> None:
        """A chart that fails says so in its place, and so do all where what goes before them does."""
        self._drawn = self._state()
        broken: Exception | None = None
        try:
            self.prepare()
        except Exception as error:
            broken = error
        for key in self.deck.shown:
            self.deck[key].set_chart(self._made(key) if broken is None else self._failed(key, broken))

    def _made(self, key: str) -> Chart:
        try:
            return self.chart_of(key)
        except Exception as error:
            return self._failed(key, error)

    def _failed(self, key: str, error: Exception) -> Chart:
        return failed(key, self.deck.title(key), error)

    def sizeHint(self) -> QSize:
        return QSize(520, 400)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.refresh()
