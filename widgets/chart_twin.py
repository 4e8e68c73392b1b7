"""The page that shows a chart's numbers, or a chart that is a table of text, as a table."""

from __future__ import annotations

from collections.abc import Collection

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication, QKeySequence, QResizeEvent, QShortcut
from PySide6.QtWidgets import QAbstractItemView, QTableView, QVBoxLayout, QWidget

from core.charts.chart import Chart, Table, has_data
from widgets.chart_table import ChartTableModel
from widgets.labels import ElidedLabel, quiet_label
from widgets.table_text import column_widths, columns_of
from widgets.theme import GRID, set_role, small_font

LEAST = 104.0  # columns are elided down to this; then the table scrolls


class TablePage(QWidget):
    """Title, definition, rows and notes. hidden: names of columns that are left to the export."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.hidden: Collection[str] = ()
        self.title, self.definition, self.notes = ElidedLabel(), quiet_label(wrap=True), quiet_label(wrap=True)
        self.title.setContentsMargins(0, 0, 14 * GRID, 0)  # the chart's buttons lie there
        set_role(self.title, "heading")
        self.view = _TableView()
        self.view.resized.connect(self._fit)
        self.model = ChartTableModel()
        self.view.setModel(self.model)
        column = QVBoxLayout(self)
        column.setContentsMargins(GRID, GRID, GRID, GRID)
        column.setSpacing(GRID // 2)
        for widget in (self.title, self.definition, self.view, self.notes):
            column.addWidget(widget, int(widget is self.view))

    def set_chart(self, chart: Chart) -> None:
        """Show the table twin of `chart`."""
        self.model.set_chart(chart)
        self.title.setText(f"{chart.title} ({chart.badge})")
        self.view.setAccessibleName(f"{chart.title} table")
        self.definition.setText(chart.definition)
        notes = chart.notes if has_data(chart) else (*chart.notes, chart.empty)
        self.notes.setText(" · ".join(notes))
        self.notes.setVisible(bool(notes))
        for index, name in enumerate(self.model.contents.columns):
            self.view.setColumnHidden(index, name in self.hidden)
        self._fit()

    def _fit(self) -> None:
        """Columns as wide as their texts; where they do not fit, the widest give way."""
        contents = self.model.contents
        shown = [index for index, name in enumerate(contents.columns) if name not in self.hidden]
        names = tuple(contents.columns[index] for index in shown)
        part = Table(names, tuple(tuple(row[index] for index in shown) for row in contents.rows[:200]))
        self.view.horizontalHeader().setStretchLastSection(bool(part.columns) and columns_of(part)[-1].decimals is None)
        room = self.view.viewport().width()
        for index, width in zip(shown, column_widths(part, room, self.view.font(), pad=3 * GRID, least=LEAST)):
            self.view.setColumnWidth(index, int(width))


class _TableView(QTableView):
    """Rows of small text that can be copied; `resized` when there is another width to fill."""

    resized = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setFont(small_font())
        self.horizontalHeader().setFont(small_font())
        self.setAlternatingRowColors(True)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.horizontalHeader().setMinimumSectionSize(32)
        self.horizontalHeader().setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.verticalHeader().setDefaultSectionSize(3 * GRID)
        self.verticalHeader().hide()
        copy = QShortcut(QKeySequence(QKeySequence.StandardKey.Copy), self, context=Qt.ShortcutContext.WidgetShortcut)
        copy.activated.connect(lambda: QGuiApplication.clipboard().setText(selected_text(self)))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.resized.emit()


def selected_text(view: QTableView) -> str:
    """The selected cells, columns apart by tabs."""
    cells = sorted((index.row(), index.column(), str(index.data(Qt.ItemDataRole.EditRole))) for index in view.selectedIndexes())
    rows: dict[int, list[str]] = {}
    for row, _column, text in cells:
        rows.setdefault(row, []).append(text)
    return "\n".join("\t".join(row) for row in rows.values())
