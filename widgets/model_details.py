"""The facts of one model as its headers tell them, and the memory that a configuration of it needs."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QGridLayout, QPlainTextEdit, QToolButton, QVBoxLayout, QWidget

from core.events import Estimate
from core.models.info import ModelInfo
from widgets import theme
from widgets.editors import grouped
from widgets.labels import quiet_label, role_label
from widgets.quantity import spoken
from widgets.share_bar import Part, ShareBar
from widgets.theme import GRID, colours, family_colour, key_colour, mono_font, set_role
from widgets.token_colours import blend

COLUMNS = 3  # of facts
NAMES = {"kv": "KV cache"}


class ModelDetails(QWidget):
    """Architecture, bytes by type, chat template, and memory needed against memory free."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._info: ModelInfo | None = None
        self._estimate: Estimate | None = None
        self.facts = QGridLayout()
        self.facts.setHorizontalSpacing(2 * GRID)
        self.facts.setVerticalSpacing(0)
        self.template_button = QToolButton()
        self.template_button.setCheckable(True)
        self.template = QPlainTextEdit()
        self.template.setReadOnly(True)
        self.template.setFont(mono_font(small=True))
        self.template.setFixedHeight(18 * GRID)
        self.template.setAccessibleName("Chat template")
        self.template.hide()
        self.template_button.toggled.connect(self.template.setVisible)
        self.stored, self.needed = ShareBar(), ShareBar()
        self.verdict = role_label("", wrap=True)
        self._memory = QWidget()
        self._assemble()
        theme.notifier.changed.connect(self._redraw)

    def _assemble(self) -> None:
        memory = QVBoxLayout(self._memory)
        memory.setContentsMargins(0, GRID, 0, 0)
        memory.setSpacing(GRID)
        memory.addWidget(role_label("heading", "Memory for this configuration, modelled"))
        memory.addWidget(self.needed)
        memory.addWidget(self.verdict)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(GRID)
        page.addLayout(self.facts)
        page.addWidget(self.template_button, 0, Qt.AlignmentFlag.AlignLeft)
        page.addWidget(self.template)
        page.addSpacing(GRID)
        page.addWidget(role_label("heading", "Bytes in the file, by type"))
        page.addWidget(self.stored)
        page.addWidget(self._memory)

    def show_info(self, info: ModelInfo) -> None:
        """Everything that the headers of a model tell."""
        self._info = info
        while (item := self.facts.takeAt(0)) is not None:
            if (old := item.widget()) is not None:
                old.hide()
                old.deleteLater()
        for index, (name, value) in enumerate(facts(info)):
            row, column = divmod(index, COLUMNS)
            self.facts.addWidget(quiet_label(name), 2 * row, column)
            self.facts.addWidget(role_label("", value), 2 * row + 1, column, Qt.AlignmentFlag.AlignTop)
            self.facts.setColumnStretch(column, 1)
            self.facts.setRowMinimumHeight(2 * row + 1, 3 * GRID)
        template = info.chat_template
        self.template_button.setText(f"Chat template, {grouped(len(template))} characters" if template else "No chat template")
        self.template_button.setEnabled(bool(template))
        self.template_button.setChecked(False)
        self.template.setPlainText(template or "")
        self._redraw()

    def show_estimate(self, estimate: Estimate | None) -> None:
        """What the configuration needs; None where it cannot be told."""
        self._estimate = estimate
        self._memory.setVisible(estimate is not None)
        if estimate is not None:
            self.verdict.setText(verdict(estimate))
            set_role(self.verdict, "error" if _over(estimate) > 0 else "")
        self._redraw()

    def _redraw(self) -> None:
        """Bars hold colours of the theme in force."""
        if self._info is not None:
            ordered = sorted(self._info.tensor_bytes.items(), key=lambda pair: -pair[1])
            self.stored.show_parts([Part(name, size, _shade(index)) for index, (name, size) in enumerate(ordered)])
        if self._estimate is not None:
            parts = [Part(NAMES.get(name, name), size, key_colour(name).name()) for name, size in self._estimate.parts.items()]
            self.needed.show_parts(parts, self._estimate.available)


def facts(info: ModelInfo) -> list[tuple[str, str]]:
    """Name and value of each fact worth reading, for this kind of model."""
    known = [
        ("Architecture", f"{info.architecture}, {info.format}"),
        ("Parameters", counted(info.parameters)),
        ("Context", f"{grouped(info.context)} tokens"),
        ("Layers", grouped(info.layers)),
        ("Width", grouped(info.width)),
        ("FFN width", grouped(info.ffn_width)),
        ("Heads", f"{info.query_heads} query, {info.kv_heads} KV"),
        ("Head size", grouped(info.head_size)),
        ("Vocabulary", grouped(info.vocabulary)),
        ("Output head", "tied to the embedding" if info.tied_head else "its own"),
        ("Engine", info.engine),
    ]
    if info.experts:
        known.append(("Experts", f"{info.experts_used} of {info.experts} a token"))
    if info.sliding_window:
        known.append(("Sliding window", f"{grouped(info.sliding_window)} tokens"))
    return known


def counted(count: int) -> str:
    """`135 M`, `7.24 B`."""
    scale, unit = next((pair for pair in ((1e9, "B"), (1e6, "M"), (1e3, "K")) if count >= pair[0]), (1.0, ""))
    return f"{count / scale:.3g} {unit}".rstrip()


def verdict(estimate: Estimate) -> str:
    """Whether it fits, in words."""
    needs = spoken(float(estimate.total), "B")
    if estimate.available is None:
        return f"Needs {needs}. How much is free cannot be told on this system."
    free, over = spoken(float(estimate.available), "B"), _over(estimate)
    if over > 0:
        return f"Does not fit: needs {needs}, {spoken(float(over), 'B')} more than the {free} that are free."
    each = f" Each token adds {spoken(float(estimate.kv_per_token), 'B')}." if estimate.kv_per_token else ""
    return f"Fits: needs {needs} of {free} free.{each}"


def _over(estimate: Estimate) -> int:
    return estimate.total - estimate.available if estimate.available is not None else 0


def _shade(index: int) -> str:
    """The weights' colour, paler for each further type."""
    ground = QColor(colours().raised)
    return blend(ground, family_colour("weights"), max(0.25, 1 - 0.28 * index)).name()
