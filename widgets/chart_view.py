"""A chart in the window: the drawing, its table twin, and export."""

from __future__ import annotations

from functools import cached_property

from PySide6.QtCore import QPoint, Qt, QTimer, Signal
from PySide6.QtGui import QGuiApplication, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QMenu, QStackedLayout, QToolButton, QWidget

from core.charts.chart import Chart, has_data
from widgets.chart_canvas import ChartCanvas
from widgets.chart_twin import TablePage
from widgets.failed_chart import failed
from widgets.theme import GRID, set_role, small_font

TABLE_EVERY_MS = 500  # a long table is not built anew for every token


class ChartView(QWidget):
    """Draws any chart. `export_requested` carries the chart that is shown."""

    export_requested = Signal(object)

    def __init__(self, chart: Chart | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.canvas = ChartCanvas()
        self._chart = self.canvas.chart
        self._stack = QStackedLayout(self)
        self._stack.setContentsMargins(0, 0, 0, 0)
        self._stack.addWidget(self.canvas)
        self._later = QTimer(self, singleShot=True, interval=TABLE_EVERY_MS)
        self._later.timeout.connect(self._fill_table)
        self.buttons = self._button_row()
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.customContextMenuRequested.connect(lambda at: self._open_menu(self.mapToGlobal(at)))
        self.canvas.spoke.connect(self._speak)
        self.canvas.zoom_changed.connect(self._on_zoom)
        if chart is not None:
            self.set_chart(chart)

    @cached_property
    def twin(self) -> TablePage:
        """The table, made when it is first to be seen."""
        page = TablePage()
        self._stack.addWidget(page)
        return page

    @property
    def chart(self) -> Chart:
        """What is shown; its numbers, also where drawing it failed."""
        return self._chart

    def set_chart(self, chart: Chart) -> None:
        """Show `chart`. Cheap: it is painted at the next turn, and not at all while hidden.

        One that cannot be shown says so in its place.
        """
        if chart is self._chart:
            return
        self._chart = chart
        try:
            self._show(chart)
        except Exception as error:
            self._show(failed(chart.name, chart.title, error))

    def _show(self, chart: Chart) -> None:
        self.setAccessibleName(f"{chart.title} chart")
        self.canvas.setAccessibleName(self.accessibleName())
        self.canvas.setToolTip(" · ".join((chart.definition, *chart.notes)))
        self.canvas.set_chart(chart)
        self._show_listing(chart)
        if self.table_shown and not self._later.isActive():
            self._later.start()

    @property
    def table_shown(self) -> bool:
        return self._stack.currentIndex() == 1

    def show_table(self, shown: bool) -> None:
        """Change between the drawing and its table twin."""
        self._stack.setCurrentWidget(self.twin if shown else self.canvas)
        self.table_button.setChecked(shown)
        if shown:
            self._fill_table()
        self.buttons.raise_()

    def _show_listing(self, chart: Chart) -> None:
        """A chart that is a table of text is nothing but its table."""
        listed = chart.listing is not None and has_data(chart)
        if listed != self.table_button.isHidden():
            self.table_button.setHidden(listed)
            self.show_table(listed)
            self._place_buttons()

    def _fill_table(self) -> None:
        try:
            self.twin.set_chart(self._chart)
        except Exception as error:
            self.twin.set_chart(failed(self._chart.name, self._chart.title, error))

    def _speak(self, text: str) -> None:
        self.canvas.setAccessibleDescription(text or f"{self.chart.badge}. {self.chart.definition}")

    def _on_zoom(self, zoomed: bool) -> None:
        self.reset_button.setVisible(zoomed)
        self._place_buttons()

    def _button_row(self) -> QWidget:
        holder = QWidget(self)
        row = QHBoxLayout(holder)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        self.reset_button = _button("Reset", "Show the whole chart again (0)")
        self.reset_button.clicked.connect(self.canvas.reset_zoom)
        self.reset_button.hide()
        self.table_button = _button("Table", "Show the same numbers as a table")
        self.table_button.setCheckable(True)
        self.table_button.toggled.connect(self.show_table)
        self.menu_button = _button("⋯", "Export, copy, and more")
        self.menu_button.setAccessibleName("Chart menu")
        self.menu_button.clicked.connect(self._open_menu_below)
        for button in (self.reset_button, self.table_button, self.menu_button):
            row.addWidget(button)
        return holder

    def menu(self) -> QMenu:
        """What can be done with the chart; the caller shows it."""
        menu = QMenu(self)
        menu.addAction("Export…", lambda: self.export_requested.emit(self.chart))
        menu.addAction("Copy picture", lambda: QGuiApplication.clipboard().setPixmap(self.canvas.picture()))
        text = "Show chart" if self.table_shown else "Show table"
        menu.addAction(text, lambda: self.show_table(not self.table_shown)).setVisible(not self.table_button.isHidden())
        menu.addAction("Reset zoom", self.canvas.reset_zoom).setEnabled(not self.reset_button.isHidden())
        return menu

    def _open_menu_below(self) -> None:
        self._open_menu(self.menu_button.mapToGlobal(QPoint(0, self.menu_button.height())))

    def _open_menu(self, at: QPoint) -> None:
        menu = self.menu()
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(at)

    def _place_buttons(self) -> None:
        self.buttons.adjustSize()
        self.buttons.move(self.width() - self.buttons.width() - 4, 4)
        self.buttons.raise_()
        self.canvas.reserve = self.buttons.width() + GRID
        self.canvas.invalidate()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._place_buttons()


def _button(text: str, tip: str) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.setToolTip(tip)
    button.setFont(small_font())
    button.setStyleSheet("padding: 1px 6px;")
    set_role(button, "quiet")
    return button
