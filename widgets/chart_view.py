"""A chart in the window: the drawing, its table twin, and export."""

from __future__ import annotations

from PySide6.QtCore import QPoint, Qt, QTimer, Signal
from PySide6.QtGui import QGuiApplication, QKeySequence, QResizeEvent, QShortcut
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QMenu,
    QStackedLayout,
    QTableView,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from core.charts.chart import Chart, has_data
from widgets.chart_canvas import ChartCanvas
from widgets.chart_table import ChartTableModel
from widgets.labels import ElidedLabel
from widgets.theme import GRID, set_role, small_font

TABLE_EVERY_MS = 500  # a long table is not built anew for every token


class ChartView(QWidget):
    """Draws any chart. `export_requested` carries the chart that is shown."""

    export_requested = Signal(object)

    def __init__(self, chart: Chart | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.canvas = ChartCanvas()
        self.table = _table_view()
        self._table_title = ElidedLabel()
        self._table_title.setContentsMargins(0, 0, 14 * GRID, 0)
        set_role(self._table_title, "heading")
        self._model = ChartTableModel()
        self.table.setModel(self._model)
        self._stack = QStackedLayout(self)
        self._stack.setContentsMargins(0, 0, 0, 0)
        self._stack.addWidget(self.canvas)
        self._stack.addWidget(self._table_page())
        self._later = QTimer(self, singleShot=True, interval=TABLE_EVERY_MS)
        self._later.timeout.connect(self._fill_table)
        self.buttons = self._button_row()
        self.canvas.spoke.connect(self._speak)
        self.canvas.zoom_changed.connect(self._on_zoom)
        if chart is not None:
            self.set_chart(chart)

    @property
    def chart(self) -> Chart:
        """What is shown."""
        return self.canvas.chart

    def set_chart(self, chart: Chart) -> None:
        """Show `chart`. Cheap: it is painted at the next turn, and not at all while hidden."""
        if chart is self.chart:
            return
        if chart.title != self.chart.title:
            self.setAccessibleName(f"{chart.title} chart")
            self.canvas.setAccessibleName(self.accessibleName())
            self.table.setAccessibleName(f"{chart.title} table")
        self.canvas.setToolTip(chart.definition if self.height() < 240 else "")
        self.canvas.set_chart(chart)
        listed = chart.listing is not None and has_data(chart)
        if listed != self.table_button.isHidden():
            self.table_button.setHidden(listed)
            self.show_table(listed)
        if self.table_shown and not self._later.isActive():
            self._later.start()

    @property
    def table_shown(self) -> bool:
        return self._stack.currentIndex() == 1

    def show_table(self, shown: bool) -> None:
        """Change between the drawing and its table twin."""
        self._stack.setCurrentIndex(int(shown))
        self.table_button.setChecked(shown)
        if shown:
            self._fill_table()
        self.buttons.raise_()

    def _fill_table(self) -> None:
        self._model.set_chart(self.chart)
        self._table_title.setText(f"{self.chart.title} ({self.chart.badge})")
        self.table.resizeColumnsToContents()

    def _speak(self, text: str) -> None:
        self.canvas.setAccessibleDescription(text or f"{self.chart.badge}. {self.chart.definition}")

    def _on_zoom(self, zoomed: bool) -> None:
        self.reset_button.setVisible(zoomed)
        self._place_buttons()

    def _table_page(self) -> QWidget:
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(GRID, GRID, GRID, 0)
        column.addWidget(self._table_title)
        column.addWidget(self.table)
        return page

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
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.customContextMenuRequested.connect(lambda at: self._open_menu(self.mapToGlobal(at)))
        return holder

    def menu(self) -> QMenu:
        """What can be done with the chart; the caller shows it."""
        menu = QMenu(self)
        menu.addAction("Export…", lambda: self.export_requested.emit(self.chart))
        menu.addAction("Copy picture", lambda: QGuiApplication.clipboard().setPixmap(self.canvas.picture()))
        menu.addAction("Show chart" if self.table_shown else "Show table", lambda: self.show_table(not self.table_shown))
        menu.addAction("Reset zoom", self.canvas.reset_zoom).setEnabled(self.reset_button.isVisibleTo(self))
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


def _table_view() -> QTableView:
    view = QTableView()
    view.setAlternatingRowColors(True)
    view.setShowGrid(False)
    view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    view.horizontalHeader().setStretchLastSection(True)
    view.verticalHeader().hide()
    copy = QShortcut(QKeySequence(QKeySequence.StandardKey.Copy), view, context=Qt.ShortcutContext.WidgetShortcut)
    copy.activated.connect(lambda: QGuiApplication.clipboard().setText(selected_text(view)))
    return view


def selected_text(view: QTableView) -> str:
    """The selected cells, columns apart by tabs."""
    cells = sorted((index.row(), index.column(), str(index.data(Qt.ItemDataRole.EditRole))) for index in view.selectedIndexes())
    rows: dict[int, list[str]] = {}
    for row, _column, text in cells:
        rows.setdefault(row, []).append(text)
    return "\n".join("\t".join(row) for row in rows.values())
