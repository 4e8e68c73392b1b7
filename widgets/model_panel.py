"""The model: what is known of it before it is loaded, what it needs, and those opened lately."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from core.events import Estimate
from core.models.info import ModelInfo
from widgets.labels import ElidedLabel, error_label, role_label
from widgets.model_details import ModelDetails
from widgets.theme import GRID, set_role

EMPTY = "No model is open. Open a .gguf file or a folder of safetensors, or drop one on the window."


class ModelPanel(QScrollArea):
    """Shows a ModelInfo and an Estimate; loads nothing itself."""

    open_requested = Signal(str)  # a path, or a name from the recent ones

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title = role_label("heading", wrap=True)
        self.path = ElidedLabel()
        set_role(self.path, "small")
        self.problem = error_label()
        self.details = ModelDetails()
        self.recent_heading = role_label("heading", "Recent models")
        self.recent = QListWidget()
        self.recent.setAccessibleName("Recent models; Enter opens one")
        self.recent.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.recent.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.recent.itemActivated.connect(lambda item: self.open_requested.emit(item.data(Qt.ItemDataRole.UserRole)))
        self._assemble()
        self.set_info(None)
        self.set_recent(())

    def _assemble(self) -> None:
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(2 * GRID, GRID, 2 * GRID, GRID)
        column.setSpacing(GRID)
        for widget in (self.title, self.path, self.problem, self.details):
            column.addWidget(widget)
        column.addSpacing(GRID)
        column.addWidget(self.recent_heading)
        column.addWidget(self.recent)
        column.addLayout(self._buttons())
        column.addStretch(1)
        self.setWidget(page)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def _buttons(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(GRID)
        for text, call in (("Open GGUF…", self._open_file), ("Open folder…", self._open_folder)):
            button = QPushButton(text)
            button.clicked.connect(call)
            row.addWidget(button)
        row.addStretch(1)
        return row

    def set_info(self, info: ModelInfo | None, problem: str = "") -> None:
        """The model that is open, and what is wrong with it, if anything; None when there is none."""
        self.title.setText(info.name if info is not None else EMPTY)
        self.path.setText(info.path if info is not None else "")
        self.path.setVisible(info is not None)
        self.problem.setText(problem)
        self.problem.setVisible(bool(problem))
        self.details.setVisible(info is not None)
        if info is not None:
            self.details.show_info(info)
        self.set_estimate(None)

    def set_estimate(self, estimate: Estimate | None) -> None:
        """What the configuration shown needs of memory."""
        self.details.show_estimate(estimate)

    def set_recent(self, models: Sequence[str]) -> None:
        """Paths or names of models opened lately, the latest first."""
        self.recent.clear()
        for model in models:
            row = QListWidgetItem(f"{Path(model).name}    {Path(model).parent}" if Path(model).is_absolute() else model)
            row.setData(Qt.ItemDataRole.UserRole, model)
            row.setToolTip(model)
            self.recent.addItem(row)
        self.recent.setFixedHeight(min(6, len(models)) * max(1, self.recent.sizeHintForRow(0)) + 2)
        for widget in (self.recent_heading, self.recent):
            widget.setVisible(bool(models))

    def _open_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a GGUF file", "", "GGUF models (*.gguf)")
        if path:
            self.open_requested.emit(path)

    def _open_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Open a folder of safetensors")
        if path:
            self.open_requested.emit(path)
