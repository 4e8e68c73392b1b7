"""The command palette: type a few letters of anything that can be done, and do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QModelIndex, QObject, QPersistentModelIndex, QRect, QSize, Qt
from PySide6.QtGui import QColor, QFocusEvent, QFont, QIcon, QKeyEvent, QPainter, QPalette
from PySide6.QtWidgets import (
    QFrame,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from widgets.theme import GRID, colours, set_role, small_font

PROMPT = "Type a command, a technique, a model or a dock"
WIDTH, ROWS, ROW_HEIGHT = 560, 12, 32
_DETAIL = Qt.ItemDataRole.UserRole
_HINT = Qt.ItemDataRole.UserRole + 1
_INDEX = Qt.ItemDataRole.UserRole + 2


@dataclass(frozen=True)
class Entry:
    """One line of the palette. detail: what it does, in quiet text. hint: its shortcut."""

    text: str
    call: Callable[[], object]
    detail: str = ""
    hint: str = ""
    icon: QIcon | None = None


More = Callable[[str], Sequence[Entry]]


def matches(query: str, text: str) -> int | None:
    """How badly `text` matches: each word of the query must stand in it, best at the start of a word; None is no match."""
    folded = text.casefold()
    cost = 0
    for word in query.casefold().split():
        place = folded.find(word)
        if place < 0:
            return None
        cost += place + (0 if place == 0 or not folded[place - 1].isalnum() else 50)
    return cost


class Palette(QFrame):
    """A panel over its parent window; closes on Esc, on a choice, and when it loses the focus."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._over = parent
        self._before: QWidget | None = None
        set_role(self, "card")
        self.setAccessibleName("Command palette")
        self.field = QLineEdit()
        self.field.setAccessibleName("Search commands")
        self.field.textChanged.connect(self._filter)
        self.field.installEventFilter(self)
        self.list = QListWidget()
        self.list.setAccessibleName("Matching commands")
        self.list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.list.setItemDelegate(_Line(self.list))
        self.list.itemClicked.connect(self._choose)
        self.nothing = QLabel("Nothing is called that.")
        set_role(self.nothing, "muted")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(GRID, GRID, GRID, GRID)
        layout.addWidget(self.field)
        layout.addWidget(self.list)
        layout.addWidget(self.nothing)
        self._fixed: Sequence[Entry] = ()
        self._more: More | None = None
        self._entries: Sequence[Entry] = ()
        self.hide()

    def open(self, entries: Sequence[Entry], prompt: str = PROMPT, more: More | None = None) -> None:
        """Show these entries and take the keyboard. more: entries made of what is typed, put before those that match it."""
        self._fixed, self._more = entries, more
        self.field.setPlaceholderText(prompt)
        self._before = self._over.focusWidget()
        self.field.clear()
        self._filter("")
        self.show()
        self.raise_()
        self.field.setFocus(Qt.FocusReason.PopupFocusReason)

    def _place(self) -> None:
        room = self._over.rect()
        width = min(WIDTH, room.width() - 4 * GRID)
        rows = min(ROWS, max(1, len(self._entries)))
        height = min(rows * ROW_HEIGHT + 8 * GRID, room.height() - 12 * GRID)
        self.setGeometry((room.width() - width) // 2, 6 * GRID, width, height)

    def _filter(self, query: str) -> None:
        made = list(self._more(query.strip())) if self._more and query else []
        scored = [(matches(query, f"{entry.text} {entry.detail}"), index) for index, entry in enumerate(self._fixed)]
        found = sorted((cost, index) for cost, index in scored if cost is not None)
        self._entries = [*made, *(self._fixed[index] for _, index in found)]
        self.list.clear()
        for index in range(len(self._entries)):
            self.list.addItem(self._item(index))
        self.list.setCurrentRow(0)
        self.list.setVisible(bool(self._entries))
        self.nothing.setVisible(not self._entries)
        self._place()

    def _item(self, index: int) -> QListWidgetItem:
        entry = self._entries[index]
        item = QListWidgetItem(entry.text)
        if entry.icon is not None:
            item.setIcon(entry.icon)
        item.setData(_DETAIL, entry.detail)
        item.setData(_HINT, entry.hint)
        item.setData(_INDEX, index)
        return item

    def _choose(self, item: QListWidgetItem | None) -> None:
        if item is not None:
            entry = self._entries[item.data(_INDEX)]
            self._close()
            entry.call()

    def _close(self) -> None:
        self.hide()
        (self._before or self._over).setFocus(Qt.FocusReason.PopupFocusReason)

    def _move(self, step: int) -> None:
        if self.list.count():
            self.list.setCurrentRow((self.list.currentRow() + step) % self.list.count())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if isinstance(event, QFocusEvent) and event.lostFocus() and event.reason() != Qt.FocusReason.ActiveWindowFocusReason:
            self.hide()
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent) and event.key() == Qt.Key.Key_Escape:
            event.accept()
        if event.type() != QEvent.Type.KeyPress or not isinstance(event, QKeyEvent):
            return super().eventFilter(watched, event)
        match event.key():
            case Qt.Key.Key_Escape:
                self._close()
            case Qt.Key.Key_Return | Qt.Key.Key_Enter:
                self._choose(self.list.currentItem())
            case Qt.Key.Key_Down | Qt.Key.Key_Up:
                self._move(1 if event.key() == Qt.Key.Key_Down else -1)
            case _:
                return super().eventFilter(watched, event)
        return True


class _Line(QStyledItemDelegate):
    """Icon, name, quiet detail, and the shortcut at the right."""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        return QSize(0, ROW_HEIGHT)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> None:
        painter.save()
        if option.state & QStyle.StateFlag.State_Selected:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(option.palette.color(QPalette.ColorRole.Highlight))
            painter.drawRoundedRect(option.rect.adjusted(0, 1, 0, -1), 6, 6)
        rect = option.rect.adjusted(GRID, 0, -GRID, 0)
        made = index.data(Qt.ItemDataRole.DecorationRole)
        if isinstance(made, QIcon):
            made.paint(painter, QRect(rect.left(), rect.top(), 16, rect.height()))
        rect.setLeft(rect.left() + 16 + GRID)
        _text(painter, rect, index.data(_HINT), small_font(), colours().muted, right=True)
        _text(painter, rect, index.data(), option.font, colours().text)
        _text(painter, rect, index.data(_DETAIL), small_font(), colours().muted, right=True)
        painter.restore()


def _text(painter: QPainter, rect: QRect, text: str, font: QFont, ink: str, *, right: bool = False) -> None:
    """Draw one elided piece at a side of `rect`, and take its room away from `rect`."""
    painter.setFont(font)
    painter.setPen(QColor(ink))
    shown = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, rect.width())
    side = Qt.AlignmentFlag.AlignRight if right else Qt.AlignmentFlag.AlignLeft
    painter.drawText(rect, side | Qt.AlignmentFlag.AlignVCenter, shown)
    used = painter.fontMetrics().horizontalAdvance(shown) + 2 * GRID if shown else 0
    rect.adjust(0 if right else used, 0, -used if right else 0, 0)
