"""The card of one technique family: selector, what it does, its source, how exact it is, its options and its effect."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtGui import QStandardItem, QStandardItemModel, QWheelEvent
from PySide6.QtWidgets import QComboBox

from core.charts.chart import Badge
from core.compatibility import with_technique
from core.config import Choice, RunConfig
from core.layers import parse_layers
from core.models.info import ModelInfo
from core.technique import options_of
from core.techniques import CATALOGUE
from widgets.card import Card
from widgets.config_text import options_text
from widgets.effects import Effects
from widgets.exactness_badge import ExactnessBadge
from widgets.form import OptionsForm
from widgets.labels import quiet_label, role_label
from widgets.theme import GRID

TITLES = {"ffn": "FFN"}
SELECTOR_WIDTH = 17 * GRID


def title_of(section: str) -> str:
    return TITLES.get(section, section.capitalize())


class SectionCard(Card):
    """A card with a form for one options dataclass of the configuration: `sampling`, `run`."""

    changed = Signal(object)  # the new configuration

    def __init__(self, section: str, kind: type) -> None:
        super().__init__(section, title_of(section))
        self._config = RunConfig()
        self.form = OptionsForm(kind, section=section)
        self.form.changed.connect(self._take)
        self.header.row.addWidget(self.state, 1)
        self.body_column.addWidget(self.form)

    def show_config(self, config: RunConfig) -> None:
        self._config = config
        options = getattr(config, self.section)
        if self.form.value() != options:
            self.form.set_value(options)
        self.state.setText(options_text(options, only_changed=True) or _defaults(options))

    def _take(self, options: Any) -> None:
        self.changed.emit(_replaced(self._config, self.section, options))


class TechniqueCard(Card):
    """A card for a family. Techniques that cannot be chosen are greyed out, with the reason as tooltip and in the body."""

    changed = Signal(object)  # the new configuration

    def __init__(self, family: str) -> None:
        super().__init__(family, title_of(family))
        self._config = RunConfig()
        self._info: ModelInfo | None = None
        self._refused: dict[str, str] = {}
        self.form: OptionsForm | None = None
        self.selector = Selector(family)
        self.selector.activated.connect(self._choose)
        self.sign = ExactnessBadge(bare=True)
        self.badge = ExactnessBadge()
        self.summary = role_label("", wrap=True)
        self.source = quiet_label(wrap=True)
        self.unavailable = quiet_label(wrap=True)
        self.effects = Effects()
        self.header.row.addWidget(self.selector)
        self.header.row.addWidget(self.state, 1)
        self.header.row.addWidget(self.sign)
        for widget in (self.summary, self.source, self.badge, self.effects, self.unavailable):
            self.body_column.addWidget(widget)  # one flat layout: nested ones share out wrapped text's height wrongly

    @property
    def choice(self) -> Choice:
        return self._config.choice(self.section)

    def show_config(self, config: RunConfig) -> None:
        before, self._config = self.choice, config
        choice = self.choice
        self.selector.show_name(choice.name)
        if self.form is None or before.name != choice.name:
            self._describe()
        elif self.form.value() != choice.options:
            self.form.set_value(choice.options)
        self.state.setText(options_text(choice.options))

    def show_refused(self, refused: Mapping[str, str], info: ModelInfo | None) -> None:
        """refused: technique name to why it cannot be chosen."""
        known_layers = info.layers if info is not None else None
        if known_layers != (self._info.layers if self._info is not None else None):
            self._info = info
            self._describe()
        self._info = info
        self._refused = dict(refused)
        self.selector.grey_out(self._refused)
        own = self._refused.get(self.choice.name, "")
        self.show_problem(f"Cannot run like this: {own}." if own else "")
        others = [f"{name}: {reason}." for name, reason in self._refused.items() if name != self.choice.name]
        self.unavailable.setText("\n".join(["Not available here", *others]) if others else "")
        self.unavailable.setVisible(bool(others))

    def set_effect(self, text: str, badge: Badge) -> None:
        """Say what the technique is modelled, or was measured, to change; empty text clears it."""
        self.effects.show_effect(text, badge)

    def _describe(self) -> None:
        """Fill the body for the technique chosen."""
        choice = self.choice
        technique = choice.technique
        self.summary.setText(technique.summary)
        self.source.setText(technique.source)
        for badge in (self.sign, self.badge):
            badge.show_exactness(technique.exactness)
        if self.form is not None:
            self.body_column.removeWidget(self.form)
            self.form.hide()
            self.form.deleteLater()
        count = self._info.layers if self._info is not None else 0
        checks = {"layers": lambda text: parse_layers(text, count)} if count else {}
        self.form = OptionsForm(technique.options, section=self.section, checks=checks)
        self.form.set_value(choice.options)
        self.form.changed.connect(self._take)
        self.body_column.insertWidget(3, self.form)  # first: shown without a parent it would be a window for a moment
        self.form.setVisible(bool(options_of(technique.options)))

    def _choose(self) -> None:
        name = self.selector.currentText()
        if name != self.choice.name:
            self.changed.emit(with_technique(self._config, self.section, name, self._info))

    def _take(self, options: Any) -> None:
        self.changed.emit(_replaced(self._config, self.section, Choice(self.section, self.choice.name, options)))


class Selector(QComboBox):
    """The techniques of a family, each with its summary as tooltip."""

    def __init__(self, family: str) -> None:
        super().__init__()
        self._family = family
        self._rows = QStandardItemModel(self)
        for name in CATALOGUE[family]:
            self._rows.appendRow(QStandardItem(name))
        self.setModel(self._rows)
        self.setFixedWidth(SELECTOR_WIDTH)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName(f"{title_of(family)} technique")
        self.grey_out({})

    def show_name(self, name: str) -> None:
        with QSignalBlocker(self):
            self.setCurrentText(name)
        self.setToolTip(CATALOGUE[self._family][name].summary)

    def grey_out(self, refused: Mapping[str, str]) -> None:
        """Disable the techniques in `refused`; their tooltip says why."""
        for row, (name, technique) in enumerate(CATALOGUE[self._family].items()):
            item = self._rows.item(row)
            item.setEnabled(name not in refused)
            item.setToolTip(f"Not available: {refused[name]}." if name in refused else technique.summary)

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()  # scrolls the cards instead of changing a technique unseen


def _replaced(config: RunConfig, section: str, value: Any) -> RunConfig:
    return dataclasses.replace(config, **{section: value})


def _defaults(options: Any) -> str:
    return "greedy" if getattr(options, "temperature", None) == 0 else "defaults"
