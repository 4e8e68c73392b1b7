"""Progress and messages said in place, at the foot and the head of the window."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QToolButton, QWidget

from widgets import icons, theme
from widgets.labels import ElidedLabel
from widgets.quiet_bar import QuietBar
from widgets.theme import GRID, set_role

BAR_WIDTH = 200


class ProgressStrip(QFrame):
    """What is going on: a line of text, and for long work percent, time left and Stop."""

    stopped = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        set_role(self, "strip")
        self.setFixedHeight(4 * GRID)
        self.text = ElidedLabel()
        self.text.setAccessibleName("Status")
        self.text.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.bar = QuietBar()
        self.bar.setAccessibleName("Progress")
        self.bar.setFixedWidth(BAR_WIDTH)
        self.figures = QLabel()
        self.figures.setAccessibleName("Percent and time left")
        set_role(self.figures, "small")
        self.figures.setFixedSize(20 * GRID, 2 * GRID)  # a text that changes its size lays out the whole window
        self.facts = QLabel()
        self.facts.setAccessibleName("Engine")
        set_role(self.facts, "small")
        self.stop = QPushButton("Stop")
        self.stop.setToolTip("Stop what is running (Esc)")
        self.stop.setAccessibleName("Stop what is running")
        self.stop.setFixedHeight(3 * GRID)
        set_role(self.stop, "slim")
        self.stop.clicked.connect(self.stopped)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(2 * GRID, 0, GRID, 0)
        layout.setSpacing(GRID)
        for widget in (self.text, self.bar, self.figures, self.stop, self.facts):
            layout.addWidget(widget)
        self.idle("Ready")

    def idle(self, text: str) -> None:
        """Nothing is running."""
        self.text.setText(text)
        for widget in (self.bar, self.figures, self.stop):
            widget.hide()

    def busy(self, text: str, share: float | None, seconds_left: float | None) -> None:
        """share: 0 … 1 of the work done, None where its length is not known."""
        self.text.setText(text)
        self.stop.show()
        self.bar.setVisible(share is not None)
        self.figures.setVisible(share is not None)
        if share is not None:
            self.bar.show_share(share)
            left = "" if seconds_left is None else f" · {_seconds(seconds_left)} left"
            self.figures.setText(f"{100 * share:.0f} %{left}")


class MessageStrip(QFrame):
    """One sentence on what went wrong or was done, with at most one thing to do about it. Hidden when empty.

    `broke` may be emitted by any thread, and calls `failure`.
    """

    broke = Signal(str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.sign = QLabel()
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setTextFormat(Qt.TextFormat.PlainText)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.text.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.remedy = QPushButton()
        self.remedy.clicked.connect(self._act)
        self.close_button = QToolButton()
        self.close_button.setToolTip("Dismiss this message")
        self.close_button.setAccessibleName("Dismiss this message")
        self.close_button.clicked.connect(self.clear)
        set_role(self.close_button, "quiet")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(2 * GRID, GRID, GRID, GRID)
        layout.setSpacing(GRID)
        layout.addWidget(self.sign)
        layout.addWidget(self.text, 1)
        layout.addWidget(self.remedy)
        layout.addWidget(self.close_button)
        self._call: Callable[[], object] | None = None
        self._kind = "info"
        self.broke.connect(self.failure)
        theme.notifier.changed.connect(self._draw)
        self.clear()

    def error(self, text: str, remedy: str = "", call: Callable[[], object] | None = None) -> None:
        """What went wrong; remedy: the text of a button that calls `call`."""
        self._say("error", text, remedy, call)

    def failure(self, text: str, details: str) -> None:
        """What broke, with its details to be copied."""
        self.error(text, "Copy details", lambda: QGuiApplication.clipboard().setText(details))

    def inform(self, text: str) -> None:
        """What was done."""
        self._say("info", text, "", None)

    def clear(self) -> None:
        self.text.clear()
        self.hide()

    @property
    def kind(self) -> str:
        """`error` or `info`."""
        return self._kind

    def _say(self, kind: str, text: str, remedy: str, call: Callable[[], object] | None) -> None:
        self._kind, self._call = kind, call
        self.text.setText(text)
        self.setAccessibleName(text)
        self.remedy.setText(remedy)
        self.remedy.setAccessibleName(remedy)
        self.remedy.setToolTip(remedy)
        self.remedy.setVisible(bool(remedy))
        self._draw()
        self.show()

    def _act(self) -> None:
        call = self._call
        self.clear()
        if call is not None:
            call()

    def _draw(self) -> None:
        ink = theme.colours().error if self._kind == "error" else theme.colours().accent
        set_role(self, "error" if self._kind == "error" else "card")
        self.sign.setPixmap(icons.icon("warning" if self._kind == "error" else "info", ink).pixmap(16, 16))
        self.close_button.setIcon(icons.icon("remove"))


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return "under 1 s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
