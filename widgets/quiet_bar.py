"""A progress bar that is painted with everything else: Qt's own paints, and lays the window out, at every new value."""

from __future__ import annotations

from PySide6.QtWidgets import QProgressBar, QWidget


class QuietBar(QProgressBar):
    """Without text, in thousandths."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setTextVisible(False)
        self.setRange(0, 1000)

    def show_share(self, share: float) -> None:
        """share: 0 … 1 of the work done."""
        self.setUpdatesEnabled(False)
        self.setValue(round(1000 * share))
        self.setUpdatesEnabled(True)
