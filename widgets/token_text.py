"""The tokens of one run as text that one can point at, walk through by keyboard, select and copy."""

from __future__ import annotations

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import (
    QAccessible,
    QAccessibleEvent,
    QFocusEvent,
    QGuiApplication,
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
)
from PySide6.QtWidgets import QWidget

from core.trace import Trace
from widgets.stream_items import plain_text, spoken_token
from widgets.token_pane import TokenPane


class TokenText(TokenPane):
    """A token cursor, a selection of whole tokens, and signals for what is pointed at or chosen.

    Arrow keys, Home, End, Page Up and Page Down move the cursor, with Shift they select; Enter chooses the token.
    """

    cursor_moved = Signal(int)  # position of the token under the cursor
    pointed = Signal(int)  # item under the mouse, -1 for none
    chosen = Signal(int)  # item that was clicked, or on which Enter was pressed

    def __init__(self, parent: QWidget | None = None) -> None:
        self._cursor: int | None = None  # item
        self._anchor: int | None = None  # item where the selection began
        self._pressed: int | None = None
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.viewport().setMouseTracking(True)
        self.viewport().setCursor(Qt.CursorShape.IBeamCursor)

    def set_trace(self, trace: Trace | None, reference: Trace | None) -> None:
        self._cursor = self._anchor = None
        self._mark()
        super().set_trace(trace, reference)

    def set_show_rejected(self, show: bool) -> None:
        self._cursor = self._anchor = None
        self._mark()
        super().set_show_rejected(show)

    def set_cursor(self, position: int) -> None:
        """Put the cursor on the token at `position` and show it; nothing is emitted."""
        if 0 <= position < len(self.item_at):
            self._cursor = self._anchor = self.item_at[position]
            self._mark()
            self.reveal(self._cursor)

    def move_cursor(self, item: int, select: bool = False) -> None:
        """Put the cursor on `item`; with `select`, the selection reaches up to it."""
        if not self.items:
            return
        self._cursor = min(max(0, item), len(self.items) - 1)
        if not select or self._anchor is None:
            self._anchor = self._cursor
        self._mark()
        self.reveal(self._cursor)
        chosen = self.items[self._cursor]
        self.setAccessibleDescription(spoken_token(chosen))
        QAccessible.updateAccessibility(QAccessibleEvent(self, QAccessible.Event.DescriptionChanged))
        if not chosen.rejected:
            self.cursor_moved.emit(chosen.position)

    def choose_current(self) -> None:
        """Choose the token under the cursor; without one, the last token."""
        if self._cursor is None:
            self.move_cursor(len(self.items) - 1)
        if self._cursor is not None:
            self.chosen.emit(self._cursor)

    def select_all(self) -> None:
        if self.items:
            self._anchor, self._cursor = 0, len(self.items) - 1
            self._mark()

    def selected_text(self) -> str:
        """Text of the selected tokens, or of the one under the cursor; without rejected drafts."""
        if self._cursor is None or self._anchor is None:
            return ""
        first, last = sorted((self._anchor, self._cursor))
        return plain_text(item.token for item in self.items[first : last + 1] if not item.rejected)

    def copy(self) -> None:
        """Put the selected text on the clipboard."""
        text = self.selected_text()
        if text:
            QGuiApplication.clipboard().setText(text)

    def _mark(self) -> None:
        self.marks.cursor, self.marks.selection = self._cursor, None
        if self._anchor is not None and self._cursor is not None and self._anchor != self._cursor:
            self.marks.selection = (min(self._anchor, self._cursor), max(self._anchor, self._cursor))
        self.viewport().update()

    def _target(self, key: int, control: bool) -> int | None:
        """The item that a key moves to from the cursor; None for keys that move nothing."""
        last = len(self.items) - 1
        at = last + 1 if self._cursor is None else self._cursor
        page = max(1, self.viewport().height() // self.line_height - 1)
        match Qt.Key(key):
            case Qt.Key.Key_Left:
                return at - 1
            case Qt.Key.Key_Right:
                return at + 1
            case Qt.Key.Key_Home:
                return 0 if control else self._along_line(at, 0.0)
            case Qt.Key.Key_End:
                return last if control else self._along_line(at, self.lines.width)
            case Qt.Key.Key_Up | Qt.Key.Key_Down | Qt.Key.Key_PageUp | Qt.Key.Key_PageDown:
                size = page if key in (Qt.Key.Key_PageUp, Qt.Key.Key_PageDown) else 1
                return self._lines_away(at, -size if key in (Qt.Key.Key_Up, Qt.Key.Key_PageUp) else size)
            case _:
                return None

    def _along_line(self, item: int, x: float) -> int | None:
        return self.lines.nearest(self.lines.first_line[min(item, len(self.items) - 1)], x)

    def _lines_away(self, item: int, count: int) -> int | None:
        line, fragment = next(self.lines.fragments_of(min(item, len(self.items) - 1)))
        return self.lines.nearest(max(0, line + count), fragment.x + fragment.width / 2)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            return self.copy()
        if event.matches(QKeySequence.StandardKey.SelectAll):
            return self.select_all()
        held = event.modifiers()
        plain = held & ~(Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.KeypadModifier)
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and not plain:
            return self.choose_current()
        target = self._target(event.key(), bool(held & Qt.KeyboardModifier.ControlModifier)) if self.items else None
        if target is None:
            return super().keyPressEvent(event)
        return self.move_cursor(target, select=bool(held & Qt.KeyboardModifier.ShiftModifier))

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        if self._cursor is None and event.reason() in (Qt.FocusReason.TabFocusReason, Qt.FocusReason.BacktabFocusReason):
            self.move_cursor(len(self.items) - 1)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        item = self.item_under(event.position(), nearest=True)
        if event.button() == Qt.MouseButton.LeftButton and item is not None:
            self._pressed = self.item_under(event.position())
            self.move_cursor(item, select=bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if event.buttons() & Qt.MouseButton.LeftButton:
            item = self.item_under(event.position(), nearest=True)
            if item is not None and item != self._cursor:
                self._pressed = None
                self.move_cursor(item, select=True)
            return
        item = self.item_under(event.position())
        if item != self.marks.pointed:
            self.marks.pointed = item
            self.viewport().update()
            self.pointed.emit(-1 if item is None else item)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        item = self.item_under(event.position())
        if item is not None and item == self._pressed:
            self.chosen.emit(item)
        self._pressed = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.mousePressEvent(event)

    def viewportEvent(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Leave and self.marks.pointed is not None:
            self.marks.pointed = None
            self.viewport().update()
            self.pointed.emit(-1)
        return super().viewportEvent(event)
