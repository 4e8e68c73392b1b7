"""What to measure of a configuration's quality: the kind, the text and its length, and the button that starts or stops it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from core.quality.request import Measurement, NeedleOptions, QualityOptions
from widgets.docks.selector import Selector, SelectorRow
from widgets.theme import GRID, set_role

KINDS = {"windows": "Text in windows", "stream": "Text as one stream", "needle": "Needles in a text"}
_TOKENS = (1024, 4096, 8192, 16_384, 32_768)
_WINDOWS = (256, 512, 1024, 2048, 4096)
_LENGTHS = ("256,512", "512,1024", "512,1024,2048", "512,1024,2048,4096", "1024,2048,4096,8000")
_OTHER = "another file…"


class QualityPanel(QWidget):
    """`measure_requested` carries a Measurement, `text_requested` asks for a file (answer with `set_text`)."""

    measure_requested = Signal(object)
    stop_requested = Signal()
    text_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.kind = Selector("Measure", self._show)
        self.column = Selector("of", lambda: None)
        self.tokens = Selector("Tokens", lambda: None)
        self.window_ = Selector("Window", lambda: None)
        self.lengths = Selector("Lengths", lambda: None)
        self.text = Selector("Text", self._text_chosen)
        self.button = QPushButton("Measure")
        self.button.setFixedHeight(3 * GRID)
        set_role(self.button, "slim")
        self.button.clicked.connect(self._pressed)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(GRID // 2)
        rows.addWidget(SelectorRow(self.kind, self.column, self.button))
        rows.addWidget(SelectorRow(self.tokens, self.window_, self.lengths, self.text))
        self._path, self._busy = "", False
        self._fill()
        self.set_columns("A")
        self.set_busy(False)

    def set_columns(self, letters: Sequence[str]) -> None:
        """The configurations there are."""
        several = len(letters) > 1
        self.column.set_values((None, *range(len(letters))), ("all", *letters))
        self.column.setVisible(several)

    def set_text(self, path: str) -> None:
        """Measure on this file; "" is the text that ships with Python."""
        self._path = path
        kept = [path] if path else []
        self.text.set_values(("", *kept, _OTHER), ("Python's manual", *(Path(one).name for one in kept), _OTHER))
        self.text.choose(path)

    def set_busy(self, busy: bool) -> None:
        """While anything runs, the button stops it."""
        self._busy = busy
        self.button.setText("Stop" if busy else "Measure")
        tip = "Stop what is running (Esc)" if busy else "Measure beside the unmodified model; progress stands at the foot"
        self.button.setToolTip(tip)
        self.button.setAccessibleName(tip)

    def asked(self) -> Measurement:
        """As the selectors stand."""
        column = self.column.value if isinstance(self.column.value, int) else None
        return Measurement(self._options(), self._path, column)

    def _options(self) -> QualityOptions | NeedleOptions:
        match self.kind.value:
            case "needle":
                return NeedleOptions(lengths=str(self.lengths.value))
            case "stream":
                return QualityOptions(tokens=self.tokens.number(), stream=True)
            case _:
                return QualityOptions(tokens=self.tokens.number(), context=self.window_.number())

    def _fill(self) -> None:
        self.kind.set_values(tuple(KINDS), tuple(KINDS.values()))
        for selector, values, usual in ((self.tokens, _TOKENS, 8192), (self.window_, _WINDOWS, 1024)):
            selector.set_values(values, tuple(f"{value:,}".replace(",", "\u202f") for value in values))
            selector.choose(usual)
        self.lengths.set_values(_LENGTHS, tuple(lengths.replace(",", ", ") for lengths in _LENGTHS))
        self.lengths.choose("512,1024,2048")
        self.set_text("")
        self._show()

    def _show(self) -> None:
        """Only what the chosen kind needs."""
        self.tokens.setVisible(self.kind.value != "needle")
        self.window_.setVisible(self.kind.value == "windows")
        self.lengths.setVisible(self.kind.value == "needle")

    def _text_chosen(self) -> None:
        if self.text.value == _OTHER:
            self.text.choose(self._path)
            self.text_requested.emit()
        else:
            self._path = str(self.text.value)

    def _pressed(self) -> None:
        if self._busy:
            self.stop_requested.emit()
        else:
            self.measure_requested.emit(self.asked())
