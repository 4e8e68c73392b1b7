"""Starting, continuing and stopping runs, refusing first what cannot work; and a new engine when the old one is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QApplication

from app.session import LETTERS
from core.compatibility import refuse
from core.config import RunConfig
from core.errors import BadInput
from core.quality.request import Measurement

if TYPE_CHECKING:
    from app.main_window import Window


class RunControl:
    """What the Run menu does."""

    def __init__(self, window: Window) -> None:
        self._window = window

    def run(self) -> None:
        """Run every configuration on the prompt."""
        if self._window.can_run():
            self._begin(self._window.runner.run)

    def compare(self) -> None:
        """Measure the configurations against each other, and show the comparison."""
        if self._window.can_run():
            self._window.docks.raise_dock("comparison")
            self._begin(self._window.runner.compare)

    def measure(self, asked: Measurement) -> None:
        """Measure the quality of the configurations, and show the dock where the results appear."""
        if self._window.can_measure():
            self._window.docks.raise_dock("quality")
            self._begin(lambda: self._window.runner.measure(asked))

    def continue_from(self, column: int, position: int, token: int) -> None:
        """Go on from another token in one configuration."""
        if self._window.is_idle():
            self._begin(lambda: self._window.runner.continue_from(column, position, token))

    def continue_from_cursor(self) -> None:
        """Offer the alternatives of the token at the cursor of the stream that has the keyboard, else of the first."""
        focus = QApplication.focusWidget()
        views = [view for view in self._window.streams.columns if view.trace is not None]
        focused = next((view for view in views if focus is not None and view.isAncestorOf(focus)), views[0])
        focused.open_at_cursor()

    def stop(self) -> None:
        """Tell the engine, or what is being opened, to stop."""
        self._window.runner.stop()
        self._window.opener.stop()
        self._window.show_status()

    def restart_engine(self) -> None:
        """A new engine process; the run that was going on is over."""
        self._window.runner.abandon()
        self._window.engine.restart()
        self._window.messages.clear()
        self._window.pulse.engine_restarted()

    def _begin(self, submit: Callable[[], None]) -> None:
        self._window.attempt(lambda: self._start(submit))
        self._window.show_status()

    def _start(self, submit: Callable[[], None]) -> None:
        for letter, config in zip(LETTERS, self._window.session.configs):
            self._refuse(letter, config)
        submit()
        self._window.messages.clear()
        self._window.pulse.job_began()

    def _refuse(self, letter: str, config: RunConfig) -> None:
        """Raise BadInput with the reason when a configuration cannot work."""
        try:
            refuse(config, self._window.models.info(config.model))
        except BadInput as error:
            raise BadInput(f"{letter}: {error}") from None
