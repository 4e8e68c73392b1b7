"""The table twin of a chart as a Qt model."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt
from PySide6.QtGui import QFont

from core.charts.chart import Chart, Table, table
from widgets.chart_listing import cell_text, readable, struck

Index = QModelIndex | QPersistentModelIndex
_ROOT = QModelIndex()


class ChartTableModel(QAbstractTableModel):
    """Rows of core.charts.chart.table: one a point or a cell."""

    def __init__(self) -> None:
        super().__init__()
        self._table = Table((), ())
        self._struck = QFont()
        self._struck.setStrikeOut(True)

    def set_chart(self, chart: Chart) -> None:
        self.beginResetModel()
        self._table = readable(table(chart)) if chart.listing is not None else table(chart)
        self.endResetModel()

    @property
    def contents(self) -> Table:
        return self._table

    def rowCount(self, parent: Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self._table.rows)

    def columnCount(self, parent: Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self._table.columns)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        value = self._table.rows[index.row()][index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return cell_text(value)
        if role == Qt.ItemDataRole.ToolTipRole and isinstance(value, str):
            return value
        if role == Qt.ItemDataRole.FontRole and struck(self._table.columns[index.column()]):
            return self._struck
        if role == Qt.ItemDataRole.EditRole:
            return value
        if role == Qt.ItemDataRole.TextAlignmentRole and not isinstance(value, str):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        return self._table.columns[section] if orientation == Qt.Orientation.Horizontal else str(section + 1)
