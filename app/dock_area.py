"""The docks around the streams: made once, refreshed only where they can be seen, put back in place on request."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Literal

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QDockWidget, QMainWindow, QTabBar, QTabWidget, QWidget

from app.dock_title import DockTitle
from app.failures import contained
from app.pace import SWIFT

LEAST_REST = 0.15  # seconds

Place = Literal["left", "upper", "lower"]


@dataclass(frozen=True)
class Dock:
    """One dock. name: as `screenshot --dock` takes it. refresh: what repaints it while runs grow."""

    name: str
    title: str
    widget: QWidget
    place: Place
    refresh: Callable[[], None] | None = None


class DockArea:
    """Left: configurations. Right: two stacks of tabs, one over the other.

    rest: a refresh is followed by so many times its own length without one, which is what the docks take of the processor.
    """

    def __init__(self, window: QMainWindow, docks: Sequence[Dock]) -> None:
        self._window = window
        self._docks = {dock.name: dock for dock in docks}
        self._titles = QTimer(window, singleShot=True, interval=0)
        self._titles.timeout.connect(self._show_titles)
        self._titles.timeout.connect(lambda: self.refresh(at_once=True))
        self._frames = {dock.name: self._frame(dock) for dock in docks}
        window.setDockOptions(
            QMainWindow.DockOption.AnimatedDocks
            | QMainWindow.DockOption.AllowTabbedDocks
            | QMainWindow.DockOption.AllowNestedDocks
        )
        for area in (Qt.DockWidgetArea.LeftDockWidgetArea, Qt.DockWidgetArea.RightDockWidgetArea):
            window.setTabPosition(area, QTabWidget.TabPosition.North)
        self.rest = SWIFT.rest
        self._not_before = 0.0
        self._turn = 0
        self.reset()

    def __iter__(self) -> Iterator[Dock]:
        return iter(self._docks.values())

    def __getitem__(self, name: str) -> QWidget:
        return self._docks[name].widget

    def frame(self, name: str) -> QDockWidget:
        return self._frames[name]

    def visible(self) -> Iterator[Dock]:
        """Docks whose content can be seen; one behind a tab is visible to Qt, and empty."""
        return (dock for dock in self if not dock.widget.visibleRegion().isEmpty())

    def raise_dock(self, name: str) -> None:
        """Open the dock, in front of those it shares its place with."""
        frame = self._frames[name]
        frame.show()
        frame.raise_()
        self._docks[name].widget.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def refresh(self, at_once: bool = False) -> None:
        """Repaint the next dock of those that can be seen, as seldom as leaves the time to the streams and the engine.

        at_once: all of them, now.
        """
        if not at_once and monotonic() < self._not_before:
            return
        began = monotonic()
        seen = [dock.refresh for dock in self.visible() if dock.refresh is not None]
        self._turn += 1
        for refresh in seen if at_once else seen[self._turn % max(1, len(seen)) :][:1]:
            contained(refresh)
        self._not_before = math.inf
        QTimer.singleShot(0, self._window, partial(self._rest, began))  # when what was refreshed has been painted

    def _rest(self, began: float) -> None:
        now = monotonic()
        self._not_before = now + max(LEAST_REST, self.rest * (now - began))

    def reset(self) -> None:
        """Every dock open and in its first place."""
        for frame in self._frames.values():
            frame.setFloating(False)
            self._window.removeDockWidget(frame)
        firsts = self._place_firsts()
        for name, frame in self._frames.items():
            first = firsts[self._docks[name].place]
            if frame is not first:
                self._window.tabifyDockWidget(first, frame)
            frame.show()
        for first in firsts.values():
            first.raise_()
        self.share(firsts)

    def _place_firsts(self) -> dict[Place, QDockWidget]:
        """One dock for each place. They are split before any is given tabs: a dock with tabs takes another one as a tab."""
        firsts: dict[Place, QDockWidget] = {}
        for name, frame in self._frames.items():
            firsts.setdefault(self._docks[name].place, frame)
        self._window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, firsts["left"])
        self._window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, firsts["upper"])
        self._window.splitDockWidget(firsts["upper"], firsts["lower"], Qt.Orientation.Vertical)
        return firsts

    def share(self, firsts: dict[Place, QDockWidget]) -> None:
        """Give the docks their part of the window."""
        width, height = self._window.width(), self._window.height()
        sides = [firsts["left"], firsts["upper"]]
        self._window.resizeDocks(sides, [width * 21 // 100, width * 37 // 100], Qt.Orientation.Horizontal)
        self._window.resizeDocks([firsts["upper"], firsts["lower"]], [height // 2, height // 2], Qt.Orientation.Vertical)

    def _frame(self, dock: Dock) -> QDockWidget:
        frame = QDockWidget(dock.title, self._window)
        frame.setObjectName(dock.name)
        frame.setAccessibleName(dock.title)
        frame.setWidget(dock.widget)
        frame.setTitleBarWidget(DockTitle(frame))
        for changed in (frame.topLevelChanged, frame.dockLocationChanged, frame.visibilityChanged):
            changed.connect(self._titles.start)
        return frame

    def _show_titles(self) -> None:
        """Titles only where no tab names the dock; tabs in full, scrolled where there is no room."""
        for frame in self._frames.values():
            title = frame.titleBarWidget()
            if isinstance(title, DockTitle):
                title.set_shown(frame.isFloating() or not self._window.tabifiedDockWidgets(frame))
        for bar in self._window.findChildren(QTabBar, options=Qt.FindChildOption.FindDirectChildrenOnly):
            bar.setElideMode(Qt.TextElideMode.ElideNone)
            bar.setUsesScrollButtons(True)
            bar.setAccessibleName("Docks")
