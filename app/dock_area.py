"""The docks around the streams: made once, refreshed only where they can be seen, put back in place on request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDockWidget, QMainWindow, QTabWidget, QWidget

Place = Literal["left", "upper", "lower"]


class View(Protocol):
    """What a dock shows: `refresh` is called by the window's timer while the dock can be seen."""

    def refresh(self) -> None: ...


@dataclass(frozen=True)
class Dock:
    """One dock. name: as `screenshot --dock` takes it."""

    name: str
    title: str
    widget: QWidget
    place: Place


class DockArea:
    """Left: configurations. Right: two stacks of tabs, one over the other."""

    def __init__(self, window: QMainWindow, docks: Sequence[Dock]) -> None:
        self._window = window
        self._docks = {dock.name: dock for dock in docks}
        self._frames = {dock.name: self._frame(dock) for dock in docks}
        window.setDockOptions(
            QMainWindow.DockOption.AnimatedDocks
            | QMainWindow.DockOption.AllowTabbedDocks
            | QMainWindow.DockOption.AllowNestedDocks
        )
        for area in (Qt.DockWidgetArea.LeftDockWidgetArea, Qt.DockWidgetArea.RightDockWidgetArea):
            window.setTabPosition(area, QTabWidget.TabPosition.North)
        self.reset()

    def __iter__(self) -> Iterator[Dock]:
        return iter(self._docks.values())

    def __getitem__(self, name: str) -> QWidget:
        return self._docks[name].widget

    def frame(self, name: str) -> QDockWidget:
        return self._frames[name]

    def visible(self) -> Iterator[Dock]:
        """Docks whose content can be seen."""
        return (dock for dock in self if dock.widget.isVisible())

    def raise_dock(self, name: str) -> None:
        """Open the dock, in front of those it shares its place with."""
        frame = self._frames[name]
        frame.show()
        frame.raise_()
        self._docks[name].widget.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def reset(self) -> None:
        """Every dock open and in its first place."""
        left, right = Qt.DockWidgetArea.LeftDockWidgetArea, Qt.DockWidgetArea.RightDockWidgetArea
        firsts: dict[Place, QDockWidget] = {}
        for name, frame in self._frames.items():
            place = self._docks[name].place
            self._window.removeDockWidget(frame)
            frame.setFloating(False)
            if place in firsts:
                self._window.tabifyDockWidget(firsts[place], frame)
            elif place == "lower" and "upper" in firsts:
                self._window.addDockWidget(right, frame)
                self._window.splitDockWidget(firsts["upper"], frame, Qt.Orientation.Vertical)
            else:
                self._window.addDockWidget(left if place == "left" else right, frame)
            firsts.setdefault(place, frame)
            frame.show()
        for frame in firsts.values():
            frame.raise_()
        self.share(firsts)

    def share(self, firsts: dict[Place, QDockWidget]) -> None:
        """Give the docks their part of the window."""
        width, height = max(self._window.width(), 1100), max(self._window.height(), 700)
        sides = [firsts[place] for place in ("left", "upper") if place in firsts]
        widths = {"left": max(300, width * 21 // 100), "upper": max(380, width * 38 // 100)}
        self._window.resizeDocks(
            sides, [widths[place] for place in ("left", "upper") if place in firsts], Qt.Orientation.Horizontal
        )
        rows = [firsts[place] for place in ("upper", "lower") if place in firsts]
        self._window.resizeDocks(rows, [height * 52 // 100, height * 48 // 100][: len(rows)], Qt.Orientation.Vertical)

    def _frame(self, dock: Dock) -> QDockWidget:
        frame = QDockWidget(dock.title, self._window)
        frame.setObjectName(dock.name)
        frame.setAccessibleName(dock.title)
        frame.setWidget(dock.widget)
        return frame
