"""A small card about one token: what it is, how likely it was, and what else could have stood there."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QModelIndex, QPersistentModelIndex, QPoint, QRect, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QColor, QEnterEvent, QKeyEvent, QPainter
from PySide6.QtWidgets import (
    QFrame,
    QListWidget,
    QListWidgetItem,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from widgets.labels import ElidedLabel, quiet_label
from widgets.stream_items import Item, visible
from widgets.theme import GRID, colours, mono_font, set_role
from widgets.token_colours import SOURCES

SHOWN = 10  # alternatives
WIDTH = 320
ROW = 22
_SHARE = Qt.ItemDataRole.UserRole
_ID = Qt.ItemDataRole.UserRole + 1


class TokenCard(QFrame):
    """Floats over the window beside a token; stays while the mouse is on it, and closes on Esc."""

    continue_from = Signal(int, int)  # position, id of the alternative that was chosen
    closed = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._window = parent
        set_role(self, "card")
        self.setAutoFillBackground(True)
        self.setFixedWidth(WIDTH)
        self._position = -1
        self._title = ElidedLabel()
        self._title.setFont(mono_font())
        self._identity = quiet_label()
        self._numbers = quiet_label(wrap=True)
        self._heading = quiet_label()
        self.alternatives = _Alternatives()
        self.alternatives.itemClicked.connect(self._choose)
        self.alternatives.itemActivated.connect(self._choose)
        self._leaving = QTimer(self, singleShot=True, interval=250)
        self._leaving.timeout.connect(self.close_card)
        column = QVBoxLayout(self)
        column.setContentsMargins(GRID + 4, GRID, GRID + 4, GRID)
        column.setSpacing(GRID // 2)
        for widget in (self._title, self._identity, self._numbers, self._heading, self.alternatives):
            column.addWidget(widget)
        self.hide()

    def show_token(self, item: Item, beside: QRect, first: bool = False) -> None:
        """Show what is known of `item` next to `beside`, a rectangle in the parent's coordinates.

        first: whether it is the first one generated, whose time counts from the request.
        """
        token = item.token
        self._position = item.position
        self._title.setText(visible(token.text))
        source = "rejected draft" if item.rejected else SOURCES.get(token.source, token.source)
        place = "" if item.rejected else f" · position {item.position}"
        self._identity.setText(f"id {token.id}{place} · {source}")
        self._numbers.setText(_numbers(item, first))
        self._fill(item)
        self._leaving.stop()
        self.adjustSize()
        self.move(self._place(beside))
        self.show()
        self.raise_()

    def leave_soon(self) -> None:
        """Close shortly, unless the mouse comes onto the card or it has the keyboard."""
        self._leaving.start()

    def close_card(self) -> None:
        if self.isVisible() and not (self.underMouse() or self.alternatives.hasFocus()):
            self.hide()

    def focus_alternatives(self) -> None:
        """Give the keyboard to the list of alternatives."""
        self.alternatives.setFocus(Qt.FocusReason.OtherFocusReason)
        self.alternatives.setCurrentRow(0)

    def _fill(self, item: Item) -> None:
        token = item.token
        self.alternatives.clear()
        if token.top_ids is not None and token.top_probabilities is not None and not item.rejected:
            rows = zip(token.top_ids[:SHOWN].tolist(), token.top_probabilities.tolist(), token.top_texts)
            for token_id, share, text in rows:
                self.alternatives.add(int(token_id), text, float(share), token_id == token.id)
        count = self.alternatives.count()
        self.alternatives.setFixedHeight(count * ROW)
        self.alternatives.setVisible(count > 0)
        self._heading.setText("Click one to continue from there:")
        self._heading.setVisible(count > 0)

    def _choose(self, row: QListWidgetItem) -> None:
        if not self.isVisible():
            return  # some desktops report one click as an activation, too
        self.hide()
        self.closed.emit()
        self.continue_from.emit(self._position, row.data(_ID))

    def _place(self, beside: QRect) -> QPoint:
        """Under the token, or above it where there is no room, always inside the parent."""
        room = self._window.rect().adjusted(GRID, GRID, -GRID, -GRID)
        x = max(room.left(), min(beside.left(), room.right() - self.width()))
        below = beside.bottom() + 2
        above = beside.top() - self.height() - 2
        lowest = room.bottom() - self.height()
        return QPoint(x, below if below <= lowest else above if above >= room.top() else max(room.top(), lowest))

    def enterEvent(self, event: QEnterEvent) -> None:
        self._leaving.stop()
        super().enterEvent(event)

    def leaveEvent(self, event: QEvent) -> None:
        self.leave_soon()
        super().leaveEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.hide()
            self.closed.emit()
        else:
            super().keyPressEvent(event)


class _Alternatives(QListWidget):
    """One row a token: its text, a bar and its probability."""

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Alternatives, likeliest first; Enter continues from the current one")
        self.setItemDelegate(_Rows(self))
        self.setFont(mono_font(small=True))
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setMouseTracking(True)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.viewport().setCursor(Qt.CursorShape.PointingHandCursor)
        self.setStyleSheet("QListView { background: transparent; }")

    def add(self, token_id: int, text: str, share: float, taken: bool) -> None:
        row = QListWidgetItem(visible(text))
        row.setData(_SHARE, share)
        row.setData(_ID, token_id)
        row.setData(Qt.ItemDataRole.AccessibleTextRole, f"{visible(text)}, {share:.1%}{', the one taken' if taken else ''}")
        font = self.font()
        font.setBold(taken)
        row.setFont(font)
        self.addItem(row)


class _Rows(QStyledItemDelegate):
    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> None:
        look, box, share = colours(), option.rect, float(index.data(_SHARE))
        painter.save()
        if option.state & (QStyle.StateFlag.State_MouseOver | QStyle.StateFlag.State_Selected):
            painter.fillRect(box, QColor(look.selection))
        painter.setFont(index.data(Qt.ItemDataRole.FontRole))
        bar = QRectF(box.left() + 128, box.center().y() - 3, (box.width() - 128 - 56) * share, 6)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(look.accent))
        painter.drawRoundedRect(bar, 2, 2)
        painter.setPen(QColor(look.text))
        text = painter.fontMetrics().elidedText(str(index.data()), Qt.TextElideMode.ElideRight, 112)
        painter.drawText(box, Qt.AlignmentFlag.AlignVCenter, text)
        right = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight
        painter.drawText(box, right, _percent(share))
        painter.restore()

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        return QSize(option.rect.width(), ROW)


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %") if share >= 0.001 else "< 0.1 %"


def _numbers(item: Item, first: bool) -> str:
    token = item.token
    if token.source == "prompt":
        return "Given in the prompt."
    if item.rejected:
        return f"Drafted in round {token.round}, then rejected." if token.round is not None else "Drafted, then rejected."
    since = "the request was sent" if first else "the one before"
    time = f"{token.ms:.1f} ms after {since}" if token.ms else "in the same pass as the one before"
    if token.probability is None or token.entropy is None:
        return f"{time}\nProbability and alternatives are unavailable: this run was not inspected."
    return f"probability {_percent(token.probability)} · entropy {token.entropy:.2f} nats\n{time}"
