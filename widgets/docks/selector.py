"""Small labelled selectors above the charts of a dock."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import QSize
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QWidget

from widgets.labels import quiet_label
from widgets.theme import GRID, small_font


class Selector(QWidget):
    """A label and a drop-down of named values; `chosen` is called when a person picks one."""

    def __init__(self, label: str, chosen: Callable[[], object], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.box = QComboBox()
        self.box.setFont(small_font())
        self.box.setAccessibleName(label)
        self.box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self.box.activated.connect(lambda _index: chosen())
        caption = quiet_label(label)
        caption.setBuddy(self.box)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(GRID // 2)
        row.addWidget(caption)
        row.addWidget(self.box)
        self._values: tuple[object, ...] = ()

    def set_values(self, values: Sequence[object], names: Sequence[str]) -> None:
        """Offer these; the chosen value stays if it is still among them, else the first is taken."""
        if tuple(values) == self._values:
            return
        kept = self.value
        self._values = tuple(values)
        self.box.clear()
        self.box.addItems(list(names))
        if kept in self._values:
            self.box.setCurrentIndex(self._values.index(kept))

    @property
    def value(self) -> object:
        """The chosen value, None when there is none."""
        index = self.box.currentIndex()
        return self._values[index] if 0 <= index < len(self._values) else None

    def number(self, otherwise: int = 0) -> int:
        """The chosen value as a number."""
        return self.value if isinstance(self.value, int) else otherwise

    def choose(self, value: object) -> None:
        """Pick a value that is offered."""
        self.box.setCurrentIndex(self._values.index(value))


class SelectorRow(QWidget):
    """Selectors beside each other, flush left. It never keeps a dock from being made narrow."""

    def __init__(self, *widgets: QWidget) -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(GRID // 2, 0, GRID // 2, 0)
        row.setSpacing(GRID)
        for widget in widgets:
            row.addWidget(widget)
        row.addStretch(1)

    def minimumSizeHint(self) -> QSize:
        return QSize(0, super().minimumSizeHint().height())
