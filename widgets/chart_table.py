"""The table twin of a chart as a Qt model."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt
from PySide6.QtGui import QFont

from core.charts.chart import Chart, Table, table
from widgets.table_text import columns_of, readable

Index = QModelIndex | QPersistentModelIndex
_ROOT = QModelIndex()
_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)


class ChartTableModel(QAbstractTableModel):
    """Rows of core.charts.chart.table: one a point or a cell."""

    def __init__(self) -> None:
        super().__init__()
        self._table = Table((), ())
        self._columns = columns_of(self._table)
        self._struck = QFont()
        self._struck.setStrikeOut(True)

    def set_chart(self, chart: Chart) -> None:
        contents = readable(table(chart)) if chart.listing is not None else table(chart)
        columns = columns_of(contents)
        self.beginResetModel()
        self._table, self._columns = contents, columns
        self.endResetModel()

    @property
    def contents(self) -> Table:
        return self._table

    def rowCount(self, parent: Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self._table.rows)

    def columnCount(self, parent: Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self._table.columns)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        value, column = self._table.rows[index.row()][index.column()], self._columns[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.text(value)
        if role == Qt.ItemDataRole.ToolTipRole and isinstance(value, str):
            return value
        if role == Qt.ItemDataRole.FontRole and column.struck:
            return self._struck
        if role == Qt.ItemDataRole.EditRole:
            return value
        if role == Qt.ItemDataRole.TextAlignmentRole and column.decimals is not None:
            return _RIGHT
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        numeric = orientation == Qt.Orientation.Horizontal and self._columns[section].decimals is not None
        if role == Qt.ItemDataRole.TextAlignmentRole and numeric:
            return _RIGHT
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        return self._table.columns[section] if orientation == Qt.Orientation.Horizontal else str(section + 1)
