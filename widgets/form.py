"""A form for any options dataclass: one row an option, its range in the tooltip, what is wrong said in place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from core.technique import Option, OptionValue, options_of
from widgets.editors import Check, Editor, editor_for, range_text
from widgets.labels import error_label, quiet_label
from widgets.theme import GRID

LABEL_WIDTH = 120
NO_CHECKS: Mapping[str, Check] = MappingProxyType({})


class OptionsForm(QWidget):
    """Edits one instance of `options_class`.

    checks: option name to a function that raises BadInput for text that cannot be taken (layer selections).
    section: the family, so that tooltips can name the option as `--set` does.
    """

    changed = Signal(object)  # the new options instance

    def __init__(
        self,
        options_class: type,
        parent: QWidget | None = None,
        *,
        section: str = "",
        checks: Mapping[str, Check] = NO_CHECKS,
    ) -> None:
        super().__init__(parent)
        self._class = options_class
        self._values: dict[str, OptionValue] = {}
        self._rows: dict[str, _Row] = {}
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GRID // 2)
        for option in options_of(options_class):
            row = _Row(option, section, checks.get(option.name))
            row.editor.edited.connect(lambda value, name=option.name: self._take(name, value))
            row.editor.refused.connect(row.complain)
            self._rows[option.name] = row
            column.addWidget(row)
        self.set_value(options_class())

    def value(self) -> Any:
        """The options as last valid."""
        return self._class(**self._values)

    def set_value(self, options: Any) -> None:
        """Show `options`, an instance of the form's class; nothing is emitted."""
        self._values = {field.name: getattr(options, field.name) for field in dataclasses.fields(self._class)}
        for name, row in self._rows.items():
            row.show_value(self._values[name])

    def editor(self, name: str) -> Editor:
        return self._rows[name].editor

    def message(self, name: str) -> str:
        """What is wrong with the text of option `name`, or nothing."""
        return self._rows[name].message.text()

    def _take(self, name: str, value: OptionValue) -> None:
        self._rows[name].complain("")
        if self._values[name] != value:
            self._values[name] = value
            self.changed.emit(self.value())


class _Row(QWidget):
    """Label, editor with its unit, and a line under them for what is wrong."""

    def __init__(self, option: Option, section: str, check: Check | None) -> None:
        super().__init__()
        title = option.name.replace("_", " ")
        label = QLabel(title)
        label.setFixedWidth(LABEL_WIDTH)
        self.editor = editor_for(option, check)
        self.message = error_label()
        label.setBuddy(self.editor)
        self.editor.setAccessibleName(title)
        for widget in (label, self.editor):
            widget.setToolTip(_tooltip(option, section))
        beside = QHBoxLayout()
        beside.setSpacing(GRID)
        for widget in (label, self.editor, quiet_label(option.unit)):
            beside.addWidget(widget)
        beside.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GRID // 2)
        column.addLayout(beside)
        column.addWidget(self.message)

    def show_value(self, value: OptionValue) -> None:
        self.editor.show_value(value)
        self.complain("")

    def complain(self, message: str) -> None:
        self.message.setText(message)
        self.message.setVisible(bool(message))
        self.editor.setAccessibleDescription(message)


def _tooltip(option: Option, section: str) -> str:
    reach = range_text(option)
    lines = [option.summary[:1].upper() + option.summary[1:] + "."]
    lines += [f"{'One of' if option.choices else 'Range'}: {reach}."] if reach else []
    lines += [f"Default: {option.default}." if option.default != "" else "Default: none."]
    lines += [f"Command line: {section}.{option.name}=…"] if section else []
    return "\n".join(lines)
