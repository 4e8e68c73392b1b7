"""One editor for each type of option: number, choice, switch and text, all spoken to in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QValidator, QWheelEvent
from PySide6.QtWidgets import QAbstractSpinBox, QCheckBox, QComboBox, QLineEdit, QWidget

from core.errors import BadInput
from core.technique import Option, OptionValue

EDITOR_WIDTH, EDITOR_HEIGHT = 136, 26  # the same for every editor, whatever the range, so that forms align
Check = Callable[[str], object]  # raises BadInput


def shown_number(value: float) -> str:
    """A number as it is typed: no exponent, no needless zeros."""
    return str(value) if isinstance(value, int) else f"{value:.10f}".rstrip("0").rstrip(".")


def range_text(option: Option) -> str:
    """`1 to 64 tokens`, `mean, first`, or nothing when any value is taken."""
    if option.choices:
        return ", ".join(map(str, option.choices))
    if option.low is None or option.high is None:
        return ""
    return f"{grouped(option.low)} to {grouped(option.high)} {option.unit}".rstrip()


def grouped(value: float) -> str:
    """Thousands apart by thin spaces."""
    whole, dot, rest = shown_number(value).partition(".")
    return f"{int(whole):,}".replace(",", "\u202f") + dot + rest


class NumberBox(QAbstractSpinBox):
    """A spin box for whole numbers of any size, or for decimals, that never changes what was typed.

    Text that is no number in range brings back the value from before the typing and says so through `refused`.
    """

    edited = Signal(object)
    refused = Signal(str)

    def __init__(self, option: Option, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._option = option
        self._value: int | float = 0
        self._before: int | float = 0  # the value when typing began
        self._whole = option.type == "int"
        self._step = 1 if self._whole else (0.05 if (option.high or 2) <= 1 else 0.1)
        self.setFixedSize(EDITOR_WIDTH, EDITOR_HEIGHT)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.lineEdit().setTextMargins(6, 0, 0, 0)  # where the text of the other editors begins
        self.lineEdit().textEdited.connect(self._read)
        self.editingFinished.connect(self._settle)

    @property
    def value(self) -> int | float:
        """As last valid."""
        return self._value

    def show_value(self, value: OptionValue) -> None:
        self._value = self._before = value if isinstance(value, int | float) else 0
        self.lineEdit().setText(shown_number(self._value))

    def _read(self, text: str) -> None:
        try:
            value = int(text) if self._whole else float(text)
        except ValueError:
            return self._refuse()
        if self._clamped(value) != value:  # also true of nan
            return self._refuse()
        self._value = value
        self.edited.emit(value)
        return None

    def _refuse(self) -> None:
        if self._value != self._before:
            self._value = self._before
            self.edited.emit(self._value)
        self.refused.emit(self._expectation())

    def _settle(self) -> None:
        self._before = self._value

    def _expectation(self) -> str:
        kind = "a whole number" if self._whole else "a number"
        reach = range_text(self._option)
        return f"Takes {kind}{', ' + reach if reach else ''}; {shown_number(self._value)} stays in use."

    def _clamped(self, value: int | float) -> int | float:
        low, high = self._option.low, self._option.high
        if low is not None and not value >= low:
            return type(self._value)(low)
        return type(self._value)(high) if high is not None and value > high else value

    def stepBy(self, steps: int) -> None:
        value = self._clamped(round(self._value + steps * self._step, 10))
        self.show_value(value)
        self.selectAll()
        self.edited.emit(value)

    def stepEnabled(self) -> QAbstractSpinBox.StepEnabledFlag:
        return QAbstractSpinBox.StepEnabledFlag.StepUpEnabled | QAbstractSpinBox.StepEnabledFlag.StepDownEnabled

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        return QValidator.State.Acceptable, text, position

    def wheelEvent(self, event: QWheelEvent) -> None:
        _only_with_focus(self, event, super().wheelEvent)


class ChoiceBox(QComboBox):
    """A list of fixed values."""

    edited = Signal(object)
    refused = Signal(str)

    def __init__(self, option: Option, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        for choice in option.choices:
            self.addItem(str(choice), choice)
        self.setFixedSize(EDITOR_WIDTH, EDITOR_HEIGHT)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.activated.connect(lambda index: self.edited.emit(self.itemData(index)))

    def show_value(self, value: OptionValue) -> None:
        self.setCurrentIndex(self.findData(value))

    def wheelEvent(self, event: QWheelEvent) -> None:
        _only_with_focus(self, event, super().wheelEvent)


class Switch(QCheckBox):
    """On or off."""

    edited = Signal(object)
    refused = Signal(str)

    def __init__(self, option: Option, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleDescription(option.summary)
        self.clicked.connect(lambda checked: self.edited.emit(checked))

    def show_value(self, value: OptionValue) -> None:
        self.setChecked(bool(value))


class TextLine(QLineEdit):
    """Free text; `check` decides what is taken. Other text brings back the value from before the typing."""

    edited = Signal(object)
    refused = Signal(str)

    def __init__(self, option: Option, check: Check | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._check = check
        self._value = self._before = ""
        self.setFixedSize(EDITOR_WIDTH, EDITOR_HEIGHT)
        self.setTextMargins(-2, 0, 0, 0)
        self.setPlaceholderText(str(option.default) or "none")
        self.textEdited.connect(self._read)
        self.editingFinished.connect(self._settle)

    def show_value(self, value: OptionValue) -> None:
        self._value = self._before = str(value)
        self.setText(self._value)

    def _read(self, text: str) -> None:
        try:
            if self._check is not None:
                self._check(text)
        except BadInput as error:
            self._refuse(f"{str(error).rstrip('.')}; {self._before!r} stays in use.")
        else:
            self._value = text
            self.edited.emit(text)

    def _refuse(self, why: str) -> None:
        if self._value != self._before:
            self._value = self._before
            self.edited.emit(self._value)
        self.refused.emit(why)

    def _settle(self) -> None:
        self._before = self._value


Editor = NumberBox | ChoiceBox | Switch | TextLine


def editor_for(option: Option, check: Check | None = None, parent: QWidget | None = None) -> Editor:
    """The editor that fits the option's type and choices."""
    if option.choices:
        return ChoiceBox(option, parent)
    if option.type == "bool":
        return Switch(option, parent)
    return TextLine(option, check, parent) if option.type == "str" else NumberBox(option, parent)


def _only_with_focus(editor: QWidget, event: QWheelEvent, take: Callable[[QWheelEvent], Any]) -> None:
    """A wheel over an unfocused editor scrolls the page and does not change a setting unseen."""
    if editor.hasFocus():
        take(event)
    else:
        event.ignore()
