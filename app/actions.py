"""Every action of the window, registered once: menu, shortcut, tooltip and command palette come from here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from PySide6.QtCore import QObject, Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QMenu, QMenuBar, QToolButton, QWidget

from widgets import icons, theme


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Command:
    """One thing a person can do.

    name: stable, unique. menu: the menu it stands in, or "" for the palette alone. shortcut: alternatives separated by |.
    checked: for commands that are switched on and off. separated: a line above it in the menu.
    """

    name: str
    text: str
    menu: str
    call: Callable[[], object]
    help: str = ""
    shortcut: str = ""
    icon: str = ""
    enabled: Callable[[], bool] = _always
    checked: Callable[[], bool] | None = None
    separated: bool = False

    @property
    def shortcuts(self) -> tuple[str, ...]:
        return tuple(part for part in self.shortcut.split("|") if part)

    @property
    def shown_shortcut(self) -> str:
        first = self.shortcuts[:1]
        return QKeySequence(first[0]).toString(QKeySequence.SequenceFormat.NativeText) if first else ""


class Actions(QObject):
    """Commands and their QActions."""

    def __init__(self, owner: QWidget, commands: Iterable[Command]) -> None:
        super().__init__(owner)
        self._owner = owner
        self._commands: dict[str, Command] = {}
        self._actions: dict[str, QAction] = {}
        for command in commands:
            self._register(command)
        theme.notifier.changed.connect(self._draw_icons)

    def __iter__(self) -> Iterator[Command]:
        return iter(self._commands.values())

    def __getitem__(self, name: str) -> QAction:
        return self._actions[name]

    def command(self, name: str) -> Command:
        return self._commands[name]

    def update(self) -> None:
        """Enable and check every action as things stand now."""
        for name, command in self._commands.items():
            action = self._actions[name]
            action.setEnabled(command.enabled())
            if command.checked is not None:
                action.setChecked(command.checked())

    def fill(self, bar: QMenuBar) -> dict[str, QMenu]:
        """Add the menus to `bar`, in the order of registration; by title."""
        menus: dict[str, QMenu] = {}
        for name, command in self._commands.items():
            if command.menu and command.menu not in menus:
                menus[command.menu] = bar.addMenu(command.menu)
                menus[command.menu].setToolTipsVisible(True)
            if command.menu:
                if command.separated:
                    menus[command.menu].addSeparator()
                menus[command.menu].addAction(self._actions[name])
        return menus

    def button(self, name: str, role: str = "quiet", text: str = "") -> ActionButton:
        """A tool button for a command; without text it shows the icon alone."""
        ink = {"primary": "on_accent", "danger": "error"}.get(role, "text")
        button = ActionButton(self._commands[name], self._actions[name], text, ink)
        theme.set_role(button, role)
        return button

    def _register(self, command: Command) -> None:
        if command.name in self._commands:
            raise ValueError(f"two commands are called {command.name}")
        action = QAction(command.text, self._owner)
        action.setObjectName(command.name)
        action.setShortcuts([QKeySequence(text) for text in command.shortcuts])
        described = command.help or command.text.rstrip("…")
        action.setToolTip(f"{described} ({command.shown_shortcut})" if command.shown_shortcut else described)
        action.setCheckable(command.checked is not None)
        action.triggered.connect(lambda _checked=False, call=command.call: call())
        self._owner.addAction(action)
        self._commands[command.name] = command
        self._actions[command.name] = action
        self._draw_icon(command)

    def _draw_icons(self) -> None:
        for command in self._commands.values():
            self._draw_icon(command)

    def _draw_icon(self, command: Command) -> None:
        if command.icon:
            self._actions[command.name].setIcon(icons.icon(command.icon))


class ActionButton(QToolButton):
    """Shows an action; ink: the theme colour of its icon."""

    def __init__(self, command: Command, action: QAction, text: str, ink: str) -> None:
        super().__init__()
        self._command, self._action, self._ink = command, action, ink
        self.setText(text)
        self.setCheckable(action.isCheckable())
        self.setAccessibleName(command.text.rstrip("…"))
        self.setAccessibleDescription(command.help)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        beside, alone = Qt.ToolButtonStyle.ToolButtonTextBesideIcon, Qt.ToolButtonStyle.ToolButtonIconOnly
        self.setToolButtonStyle(beside if text else alone)
        self.clicked.connect(self._trigger)
        action.changed.connect(self._follow)
        self._follow()

    def _trigger(self) -> None:
        self._action.trigger()
        self._follow()

    def _follow(self) -> None:
        self.setToolTip(self._action.toolTip())
        self.setEnabled(self._action.isEnabled())
        self.setChecked(self._action.isChecked())
        if self._command.icon:
            self.setIcon(icons.icon(self._command.icon, getattr(theme.colours(), self._ink)))
