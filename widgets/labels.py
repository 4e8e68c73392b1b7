"""Labels in the theme's roles, and one that shortens its text to fit."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QLabel, QSizePolicy, QStyle, QStyleOption, QWidget

from widgets.theme import set_role


def role_label(role: str, text: str = "", parent: QWidget | None = None, *, wrap: bool = False) -> QLabel:
    """A label in one of the style sheet's roles; its text can be selected when it wraps."""
    label = QLabel(text, parent)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(wrap)
    if wrap:
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        label.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    set_role(label, role)
    return label


def quiet_label(text: str = "", parent: QWidget | None = None, *, wrap: bool = False) -> QLabel:
    return role_label("small", text, parent, wrap=wrap)


def error_label(parent: QWidget | None = None) -> QLabel:
    """Empty and hidden until there is something to say."""
    label = role_label("error", "", parent, wrap=True)
    label.hide()
    return label


class ElidedLabel(QLabel):
    """One line with … at its end, or where `elide` says, when there is no room; the whole text is its tooltip then.

    Its size does not depend on its text, so that a text which changes several times a second lays nothing out again.
    """

    def __init__(
        self, text: str = "", parent: QWidget | None = None, elide: Qt.TextElideMode = Qt.TextElideMode.ElideRight
    ) -> None:
        super().__init__(" ", parent)
        self._text, self._elide = "", elide
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setText(text)

    def text(self) -> str:
        return self._text

    def setText(self, text: str) -> None:
        if text != self._text:
            self._text = text
            self.setAccessibleDescription(text)
            self.update()

    def minimumSizeHint(self) -> QSize:
        return QSize(0, super().minimumSizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        option = QStyleOption()
        option.initFrom(self)
        rect = self.contentsRect()
        shown = self.fontMetrics().elidedText(self._text, self._elide, rect.width())
        self.setToolTip(self._text if shown != self._text else "")
        self.style().drawItemText(
            painter, rect, int(self.alignment()), option.palette, self.isEnabled(), shown, self.foregroundRole()
        )
        self.style().drawPrimitive(QStyle.PrimitiveElement.PE_Widget, option, painter, self)
