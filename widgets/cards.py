"""The configurations at the left of the window: cards for each family, and the letters A to D above them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QToolButton, QVBoxLayout, QWidget

from core.charts.chart import Badge
from core.compatibility import refused_techniques
from core.config import RunConfig, option_class
from core.models.info import ModelInfo
from core.techniques import CATALOGUE
from widgets import icons, theme
from widgets.column_tabs import ColumnTabs
from widgets.config_text import SECTIONS, differing, section_text
from widgets.labels import ElidedLabel
from widgets.technique_card import SectionCard, TechniqueCard, title_of
from widgets.theme import GRID, column_style, set_role

MOST = 4
Effect = tuple[str, Badge]


class ConfigurationPanel(QScrollArea):
    """The cards of one configuration."""

    config_changed = Signal(object)  # RunConfig

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._config = RunConfig()
        self._info: ModelInfo | None = None
        self.cards: dict[str, TechniqueCard | SectionCard] = {
            section: TechniqueCard(section) if section in CATALOGUE else SectionCard(section, option_class(section))
            for section in SECTIONS
        }
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(0, 0, GRID // 2, 0)
        column.setSpacing(GRID // 2)
        for card in self.cards.values():
            card.changed.connect(self._take)
            column.addWidget(card)
        column.addStretch(1)
        self.setWidget(page)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.set_config(self._config)

    def config(self) -> RunConfig:
        return self._config

    def set_config(self, config: RunConfig) -> None:
        """Show `config`; nothing is emitted."""
        self._config = config
        for card in self.cards.values():
            card.show_config(config)
        self._show_refused()

    def set_info(self, info: ModelInfo | None) -> None:
        """The model that the configuration is for: decides which techniques are available."""
        self._info = info
        self._show_refused()

    def set_reference(self, reference: RunConfig | None, column: int = 0) -> None:
        """Mark what differs from `reference`, the configuration of A, in the colour of `column`."""
        apart = differing(self._config, reference) if reference is not None else ()
        for section, card in self.cards.items():
            against = section_text(reference, section) if reference is not None and section in apart else ""
            card.show_difference(f"differs from A: {against}" if against else "", column)

    def set_effect(self, family: str, text: str, badge: Badge) -> None:
        """Say on a family's card what was predicted (badge `modelled`) or measured; empty text clears that line."""
        card = self.cards[family]
        if isinstance(card, TechniqueCard):
            card.set_effect(text, badge)

    def set_all_open(self, open_: bool) -> None:
        for card in self.cards.values():
            card.set_open(open_)

    def _show_refused(self) -> None:
        refused = refused_techniques(self._config, self._info)
        for family, card in self.cards.items():
            if isinstance(card, TechniqueCard):
                names = {name: reason for (section, name), reason in refused.items() if section == family}
                card.show_refused(names, self._info)

    def _take(self, config: RunConfig) -> None:
        self.set_config(config)
        self.config_changed.emit(config)


class ConfigurationsColumn(QWidget):
    """Up to four configurations, one shown at a time.

    The effects set with `set_effect` belong to a column and stay with it.
    """

    config_changed = Signal(int, object)  # column, RunConfig
    added = Signal(object)  # the RunConfig put at the end
    removed = Signal(int)  # column
    current_changed = Signal(int)  # column shown

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._configs: list[RunConfig] = [RunConfig()]
        self._effects: list[dict[tuple[str, bool], Effect]] = [{}]
        self._current = 0
        self.tabs = ColumnTabs()
        self.tabs.chosen.connect(self.show_column)
        self.panel = ConfigurationPanel()
        self.panel.config_changed.connect(self._take)
        self.summary = ElidedLabel()
        set_role(self.summary, "small")
        self.add_button = _tool("Add a configuration, a copy of the one shown", self.add_copy)
        self.remove_button = _tool("Remove the configuration shown", self.remove_current)
        self.copy_button = _tool("Make this configuration the same as A", self.copy_a_here)
        self.copy_button.setText("Copy A here")
        self.copy_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.open_button = _tool("Open all cards, or close them all", self._toggle_all)
        self.open_button.setText("All cards")
        self._assemble()
        theme.notifier.changed.connect(self._redraw)
        self._redraw()
        self._show()

    def _assemble(self) -> None:
        above, below = QHBoxLayout(), QHBoxLayout()
        for row in (above, below):
            row.setSpacing(GRID // 2)
            row.setContentsMargins(0, 0, GRID // 2, 0)
        above.addWidget(self.tabs)
        above.addWidget(self.add_button)
        above.addStretch(1)
        above.addWidget(self.open_button)
        above.addWidget(self.remove_button)
        below.addWidget(self.summary, 1)
        below.addWidget(self.copy_button)
        for button in (self.copy_button, self.open_button):
            button.setFixedHeight(4 * GRID)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(GRID)
        page.addLayout(above)
        page.addLayout(below)
        page.addWidget(self.panel, 1)

    def configs(self) -> tuple[RunConfig, ...]:
        return tuple(self._configs)

    @property
    def current(self) -> int:
        """The column shown."""
        return self._current

    def set_configs(self, configs: Sequence[RunConfig], current: int | None = None) -> None:
        """Show these configurations in place of all; nothing is emitted."""
        self._configs = list(configs)[:MOST]
        self._effects = [*self._effects, *({} for _ in self._configs)][: len(self._configs)]
        wanted = self._current if current is None else current
        self._current = min(max(0, wanted), len(self._configs) - 1)
        self._show()

    def set_info(self, info: ModelInfo | None) -> None:
        """The model that is open, or None when it is not known."""
        self.panel.set_info(info)

    def set_max_new_tokens(self, count: int) -> None:
        """Give every configuration the same length; emits for each that changes."""
        for column, config in enumerate(self._configs):
            if config.run.max_new_tokens != count:
                self._configs[column] = replace(config, run=replace(config.run, max_new_tokens=count))
                self.config_changed.emit(column, self._configs[column])
        self._show()

    def set_effect(self, column: int, family: str, text: str, badge: Badge) -> None:
        """What `family` is predicted (badge `modelled`) or was measured to change in a column; empty text clears the line."""
        self._effects[column][family, badge == "modelled"] = (text, badge)
        if column == self._current:
            self.panel.set_effect(family, text, badge)

    def show_column(self, column: int) -> None:
        """Show another configuration."""
        if column != self._current and 0 <= column < len(self._configs):
            self._current = column
            self._show()
            self.current_changed.emit(column)

    def add_copy(self) -> None:
        """Add a copy of the configuration shown, and show it."""
        if len(self._configs) < MOST:
            copied = self._configs[self._current]
            self._configs.append(copied)
            self._effects.append({})
            self.added.emit(copied)
            self.show_column(len(self._configs) - 1)

    def remove_current(self) -> None:
        """Remove the configuration shown, unless it is the last one."""
        if len(self._configs) > 1:
            gone = self._current
            del self._configs[gone], self._effects[gone]
            self._current = min(gone, len(self._configs) - 1)
            self._show()
            self.removed.emit(gone)
            self.current_changed.emit(self._current)

    def copy_a_here(self) -> None:
        """Make the configuration shown equal to A."""
        self._take(self._configs[0])

    def _take(self, config: RunConfig) -> None:
        self._configs[self._current] = config
        self._show()
        self.config_changed.emit(self._current, config)

    def _show(self) -> None:
        config, first = self._configs[self._current], self._current == 0
        if self.panel.config() != config:
            self.panel.set_config(config)
        self.panel.set_reference(None if first else self._configs[0], self._current)
        self.tabs.show_columns(len(self._configs), self._current)
        self.summary.setText(self._summary())
        self.copy_button.setVisible(not first)
        self.copy_button.setEnabled(config != self._configs[0])
        self.add_button.setEnabled(len(self._configs) < MOST)
        self.remove_button.setEnabled(len(self._configs) > 1)
        self._show_effects()

    def _summary(self) -> str:
        letter = column_style(self._current).letter
        if self._current == 0:
            return f"{letter} is what the others are compared with"
        names = [title_of(name) for name in differing(self._configs[self._current], self._configs[0])]
        return f"{letter} differs from A in {', '.join(names)}" if names else f"{letter} is the same as A"

    def _show_effects(self) -> None:
        for family in CATALOGUE:
            for modelled in (True, False):
                blank: Effect = ("", "modelled" if modelled else "measured")
                self.panel.set_effect(family, *self._effects[self._current].get((family, modelled), blank))

    def _toggle_all(self) -> None:
        self.panel.set_all_open(not all(card.header.open for card in self.panel.cards.values()))

    def _redraw(self) -> None:
        for button, name in ((self.add_button, "add"), (self.remove_button, "remove"), (self.copy_button, "copy")):
            button.setIcon(icons.icon(name))


def _tool(purpose: str, call: object) -> QToolButton:
    button = QToolButton()
    button.setToolTip(purpose)
    button.setAccessibleName(purpose)
    button.clicked.connect(call)
    set_role(button, "quiet")
    return button
