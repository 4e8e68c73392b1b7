"""What a technique is predicted to change and what it was measured to change, each with its badge."""

from __future__ import annotations

from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from core.charts.chart import Badge
from widgets.labels import quiet_label, role_label
from widgets.theme import GRID

_ROWS = {"predicted": ("modelled",), "measured": ("measured", "derived", "unavailable")}


class Effects(QWidget):
    """Two lines, hidden while empty: predicted and measured."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(GRID)
        grid.setVerticalSpacing(GRID // 2)
        grid.setColumnStretch(1, 1)
        self.lines: dict[str, tuple[QLabel, QLabel, QLabel]] = {}
        for row, name in enumerate(_ROWS):
            labels = (quiet_label(name.capitalize()), role_label("", wrap=True), quiet_label())
            for column, label in enumerate(labels):
                grid.addWidget(label, row, column)
                label.hide()
            self.lines[name] = labels
        self.hide()

    def show_effect(self, text: str, badge: Badge) -> None:
        """Modelled effects stand under Predicted, all others under Measured; empty text clears the line."""
        name = "predicted" if badge in _ROWS["predicted"] else "measured"
        _, value, mark = self.lines[name]
        value.setText(text)
        mark.setText(badge)
        for label in self.lines[name]:
            label.setVisible(bool(text))
        self.setVisible(any(line[1].text() for line in self.lines.values()))
