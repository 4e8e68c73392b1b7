"""The title of a dock that stands alone or floats; a dock among tabs is named by its tab and shows none."""

from __future__ import annotations

from PySide6.QtWidgets import QDockWidget, QHBoxLayout, QSizePolicy, QToolButton, QWidget

from widgets import icons, theme
from widgets.labels import role_label
from widgets.theme import GRID, set_role


class DockTitle(QWidget):
    """Name, and buttons to float and to close the dock. Dragging it moves the dock."""

    def __init__(self, frame: QDockWidget) -> None:
        super().__init__(frame)
        self._shown = False
        self._float, self._close = QToolButton(), QToolButton()
        self._float.clicked.connect(lambda: frame.setFloating(not frame.isFloating()))
        self._close.clicked.connect(frame.close)
        row = QHBoxLayout(self)
        row.setContentsMargins(GRID, 0, GRID // 2, 0)
        row.setSpacing(0)
        name = role_label("heading", frame.windowTitle())
        name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        name.setMinimumSize(1, 4 * GRID)
        row.addWidget(name, 1)
        for button, purpose in ((self._float, "Float or dock"), (self._close, "Close")):
            button.setToolTip(f"{purpose} {frame.windowTitle()}")
            button.setAccessibleName(f"{purpose} {frame.windowTitle()}")
            set_role(button, "quiet")
            row.addWidget(button)
        self._parts = (name, self._float, self._close)
        theme.notifier.changed.connect(self._draw)
        self._draw()
        self.set_shown(True)

    def set_shown(self, shown: bool) -> None:
        """Take room or none. Hints come from the layout: asked for hundreds of times a second, they must not be Python's."""
        if shown != self._shown:
            self._shown = shown
            for part in self._parts:
                part.setVisible(shown)

    def _draw(self) -> None:
        muted = theme.colours().muted
        self._float.setIcon(icons.icon("dock", muted))
        self._close.setIcon(icons.icon("remove", muted))
