"""The bar over everything: the model, Run, Stop and Compare, and the switches of a run."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QSpinBox, QVBoxLayout, QWidget

from app.actions import Actions
from core.models.info import ModelInfo
from widgets import icons, theme
from widgets.labels import ElidedLabel
from widgets.quantity import spoken
from widgets.theme import GRID, set_role

_FIRST = 100  # the stretch of what grows before the spaces around it do


class ModelChip(QFrame):
    """The model in use, in two lines; opens the recent models."""

    clicked = Signal()

    def __init__(self) -> None:
        super().__init__()
        set_role(self, "chip")
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setMinimumWidth(20 * GRID)
        self.setMaximumWidth(40 * GRID)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self._sign = QLabel()
        self.name = ElidedLabel(elide=Qt.TextElideMode.ElideMiddle)  # size and bits of a model stand at the end
        self.name.setFont(theme.body_font(bold=True))
        self.facts = ElidedLabel()
        set_role(self.facts, "small")
        lines = QVBoxLayout()
        lines.setSpacing(0)
        lines.addWidget(self.name)
        lines.addWidget(self.facts)
        row = QHBoxLayout(self)
        row.setContentsMargins(GRID, 2, GRID, 2)
        row.addWidget(self._sign)
        row.addLayout(lines, 1)
        theme.notifier.changed.connect(self._draw)
        self._draw()

    def show_model(self, model: str, info: ModelInfo | None) -> None:
        """info: None for a model whose files have not been seen yet."""
        self.name.setText(info.name if info else model)
        self.facts.setText(facts(info) if info else "not on this machine yet: fetched when it runs")
        self.setAccessibleName(f"Model {self.name.text()}, {self.facts.text()}")
        self.setToolTip(f"{info.path if info else model}\nRecent models (Ctrl+R)")

    def _draw(self) -> None:
        self._sign.setPixmap(icons.icon("model", theme.colours().accent).pixmap(16, 16))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self.clicked.emit()
        event.accept()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self.clicked.emit()
        else:
            super().keyPressEvent(event)


class Header(QWidget):
    """Buttons of the registered actions, and how often a comparison repeats."""

    def __init__(self, actions: Actions, repeats: int) -> None:
        super().__init__()
        self.model = ModelChip()
        self.repeats = QSpinBox()
        self.repeats.setRange(1, 100)
        self.repeats.setValue(repeats)
        self.repeats.setPrefix("× ")
        self.repeats.lineEdit().setTextMargins(6, 0, 0, 0)  # where the text of the other editors begins
        self.repeats.setAccessibleName("Repeats of a comparison")
        self.repeats.setToolTip("How often a comparison repeats each configuration, after a warm-up")
        row = QHBoxLayout(self)
        row.setContentsMargins(GRID, GRID // 2, GRID, GRID // 2)
        row.setSpacing(GRID)
        row.addWidget(self.model, _FIRST)  # its name is read in full in a narrow window too
        row.addStretch(1)
        row.addWidget(actions.button("run", "primary", "Run"))
        row.addWidget(actions.button("stop", "", "Stop"))
        row.addWidget(actions.button("compare", "", "Compare"))
        row.addWidget(self.repeats)
        row.addStretch(1)
        for name in ("export_chart", "export_report", "palette"):
            row.addWidget(actions.button(name))


def facts(info: ModelInfo) -> str:
    """`llama · 135 M parameters · 92.2 MiB Q4_1`."""
    largest = max(info.tensor_bytes, key=info.tensor_bytes.__getitem__, default="")
    count = info.parameters / 1e9 if info.parameters >= 1e9 else info.parameters / 1e6
    unit = "B" if info.parameters >= 1e9 else "M"
    return f"{info.architecture} · {count:.3g} {unit} parameters · {spoken(float(info.weight_bytes), 'B')} {largest}"
