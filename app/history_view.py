"""The dock of past runs: searched as one types, opened again with Enter or a double click."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, QPoint, Qt, QTimer, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QMenu,
    QStackedWidget,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from app.history import Entry, History
from core.charts.labelled import counted
from core.config import from_dict
from core.errors import BadInput, RunFailed
from widgets.config_text import headline
from widgets.labels import quiet_label, role_label
from widgets.quantity import spoken
from widgets.theme import GRID, mono_font

_EMPTY = "Every finished run is kept here.\nWrite a prompt and press Ctrl+Enter."
_NOTHING = "No run matches. Words are sought in model, prompt, text and configuration."
_AT_ONCE = 150  # ms of quiet typing before a search

Index = QModelIndex | QPersistentModelIndex
_ROOT = QModelIndex()


def _metric(name: str, unit: str) -> Callable[[Entry], str]:
    return lambda entry: spoken(entry.metrics.get(name), unit)


def _measured(name: str, unit: str = "", times: float = 1.0) -> Callable[[Entry], str]:
    """Empty where nobody has measured it."""

    def text(entry: Entry) -> str:
        value = entry.metrics.get(name)
        return "" if value is None else spoken(times * value, unit)

    return text


def _configuration(entry: Entry) -> str:
    try:
        return headline(from_dict(entry.config))
    except BadInput:
        return "of another version"


COLUMNS: dict[str, Callable[[Entry], str]] = {
    "When": lambda entry: datetime.fromtimestamp(entry.time).strftime("%d %b %H:%M"),
    "Configuration": _configuration,
    "Prompt": lambda entry: " ".join(entry.prompt.split()),
    "TTFT": _metric("ttft_ms", "ms"),
    "Decode": _metric("decode_tokens_per_s", "tok/s"),
    "Tokens": _metric("new_tokens", ""),
    "Perplexity": _measured("perplexity"),
    "Mean KL": _measured("mean_kl", "nats"),
    "Needles": _measured("needle_recall", "%", 100.0),
    "Model": lambda entry: entry.model,
}
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
_NUMBERS = {"TTFT", "Decode", "Tokens", "Perplexity", "Mean KL", "Needles"}


class HistoryModel(QAbstractTableModel):
    """Entries as rows, texts made once."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Entry] = []
        self._texts: list[list[str]] = []

    def set_entries(self, entries: list[Entry]) -> None:
        self.beginResetModel()
        self.entries = entries
        self._texts = [[text(entry) for text in COLUMNS.values()] for entry in entries]
        self.endResetModel()

    def rowCount(self, parent: Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self.entries)

    def columnCount(self, parent: Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        name = list(COLUMNS)[section] if orientation == Qt.Orientation.Horizontal else ""
        if role == Qt.ItemDataRole.TextAlignmentRole and name in _NUMBERS:
            return _RIGHT
        return name if role == Qt.ItemDataRole.DisplayRole else None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        number = list(COLUMNS)[index.column()] in _NUMBERS
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return self._texts[index.row()][index.column()]
            case Qt.ItemDataRole.ToolTipRole:
                entry = self.entries[index.row()]
                return f"{entry.prompt[:400]}\n\n{entry.text[:400]}"
            case Qt.ItemDataRole.TextAlignmentRole if number:
                return _RIGHT
            case Qt.ItemDataRole.FontRole if number:
                return mono_font(small=True)
        return None


class HistoryView(QWidget):
    """opened: the id of a run to show in A; beside: one to show in a column of its own."""

    opened = Signal(int)
    beside = Signal(int)
    failed = Signal(str)

    def __init__(self, history: History) -> None:
        super().__init__()
        self._history = history
        self._stale = True
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search runs: model, prompt, text or configuration")
        self.search.setClearButtonEnabled(True)
        self.search.setAccessibleName("Search past runs")
        self.search.setToolTip("Every word has to be found; Enter goes to the list")
        self.count = quiet_label()
        self.model = HistoryModel()
        self.table = self._table()
        self.empty = role_label("muted", _EMPTY, wrap=True)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._pages = QStackedWidget()
        self._pages.addWidget(self.table)
        self._pages.addWidget(self.empty)
        self._pause = QTimer(self, singleShot=True, interval=_AT_ONCE)
        self._pause.timeout.connect(self._search)
        self.search.textChanged.connect(lambda _text: self._pause.start())
        self.search.returnPressed.connect(self.table.setFocus)
        row = QHBoxLayout()
        row.addWidget(self.search, 1)
        row.addWidget(self.count)
        column = QVBoxLayout(self)
        column.setContentsMargins(GRID, GRID, GRID, 0)
        column.addLayout(row)
        column.addWidget(self._pages, 1)

    def refresh(self) -> None:
        """Look again when runs were added; called while the dock can be seen."""
        if self._stale and not self.visibleRegion().isEmpty():
            self._search()

    def invalidate(self) -> None:
        """Runs were added or removed."""
        self._stale = True

    def _table(self) -> QTableView:
        table = _Table()
        table.setModel(self.model)
        table.setAccessibleName("Past runs")
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setShowGrid(False)
        table.setWordWrap(False)
        table.setTabKeyNavigation(False)
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(3 * GRID + 4)
        header = table.horizontalHeader()
        header.setHighlightSections(False)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        for section, width in enumerate((14, 20, 24, 11, 13, 9, 12, 14, 10, 22)):
            header.resizeSection(section, width * GRID)
        header.setStretchLastSection(True)
        table.activated.connect(lambda index: self.opened.emit(self.model.entries[index.row()].id))
        table.deleted.connect(self._delete)
        table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        table.customContextMenuRequested.connect(self._menu)
        return table

    def _menu(self, at: QPoint) -> None:
        index = self.table.indexAt(at)
        if not index.isValid():
            return
        id_ = self.model.entries[index.row()].id
        menu = QMenu(self)
        menu.addAction("Open in A", lambda: self.opened.emit(id_))
        menu.addAction("Open beside", lambda: self.beside.emit(id_))
        menu.addAction("Delete", self._delete)
        menu.popup(self.table.viewport().mapToGlobal(at))

    def _delete(self) -> None:
        index = self.table.currentIndex()
        if index.isValid():
            try:
                self._history.delete(self.model.entries[index.row()].id)
            except (BadInput, RunFailed) as error:
                self.failed.emit(str(error))
            self._search()

    def _search(self) -> None:
        self._stale = False
        try:
            found = self._history.search(self.search.text())
        except RunFailed as error:
            self.failed.emit(str(error))
            return
        self.model.set_entries(found)
        self.count.setText(counted(len(found), "run"))
        self.empty.setText(_NOTHING if self.search.text() else _EMPTY)
        self._pages.setCurrentIndex(0 if found else 1)


class _Table(QTableView):
    deleted = Signal()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        match event.key():
            case Qt.Key.Key_Return | Qt.Key.Key_Enter if self.currentIndex().isValid():
                self.activated.emit(self.currentIndex())
            case Qt.Key.Key_Delete:
                self.deleted.emit()
            case _:
                super().keyPressEvent(event)
