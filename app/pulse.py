"""The window's one timer: takes in what the engine and the threads beside it have done, and repaints what can be seen."""

from __future__ import annotations

import gc
import os
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer

from app.failures import contained
from app.load import Load
from app.models import pieces
from app.pace import SWIFT, Pace, Sparing
from core.models.tokenizer import Tokenizer
from core.trace import Trace

if TYPE_CHECKING:
    from app.main_window import Window


IDLE_MS = 200
FULL = 0.7  # share of the processor from which the window takes from the engine, whose threads also wait for each other


class Pulse:
    """Beats five times a second, and while a job runs at the pace that the processor has time for.

    Where a run that writes has the whole processor, the pace is sparing: the threads of a decode step wait for each other, so
    that work on one core holds up all of them; the more a look takes, the fewer there are. It stays swift where events come
    faster than they are taken in, and where other programs take so much that they hold up the run themselves. A run is taken
    to be like the one before it until its load is measured.
    """

    def __init__(self, window: Window) -> None:
        self._window = window
        self._death_told = False
        self._tokenizer: Tokenizer | None = None
        self._said_at = 0.0
        self._load = Load()
        self._replaced: list[Trace | None] = []  # let go in a turn of their own: freeing a long run takes some frames
        self._pace, self._sparing = SWIFT, Sparing()
        self._full = False  # whether the last run that wrote had the whole processor
        self._timer = QTimer(window, interval=IDLE_MS)
        self._timer.timeout.connect(self.beat)

    @property
    def counts_tokens(self) -> bool:
        """Whether the model's tokenizer has been read."""
        return self._tokenizer is not None

    def start(self) -> None:
        """Beat from now on; nothing where it does already."""
        if not self._timer.isActive():
            self._timer.start()

    def stop(self) -> None:
        self._timer.stop()

    def job_began(self) -> None:
        """Look often from now on. The collector waits: it would walk through every event, for longer than a frame lasts."""
        gc.disable()
        self._load.measure(self._pids())
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._keep(SWIFT)

    def job_ended(self) -> None:
        """Show everything as it is at the end. What there is by now is no garbage, and need not be looked at again."""
        gc.freeze()
        gc.enable()
        self._timer.setTimerType(Qt.TimerType.CoarseTimer)
        self._timer.setInterval(IDLE_MS)
        window = self._window
        for show in (window.follow_runs, partial(window.docks.refresh, at_once=True), window.plan, window.show_status):
            contained(show)

    def engine_restarted(self) -> None:
        """Its end may be told anew."""
        self._death_told = False
        self.job_ended()

    def beat(self) -> None:
        """Look once."""
        window = self._window
        update = window.runner.drain()
        if window.is_busy():
            self._keep(self._fitting())
        if update.columns or update.finished:
            contained(partial(window.follow_runs, update.first_token))
        for error in update.errors:
            window.messages.error(error)
        for trace in update.finished:
            window.keeper.keep(trace)
        for trace in update.measured:
            window.keeper.measured(trace)
        self._replaced = []
        if (show := window.opener.take()) is not None:
            self._replaced = list(window.session.traces)
            contained(partial(window.attempt, show))
            self.job_ended()
        if update.ended:
            self.job_ended()
        if not window.is_busy() or monotonic() - self._said_at > self._pace.say_every:
            self._said_at = monotonic()
            self._look_around()

    def _fitting(self) -> Pace:
        """The pace from now on, as the last look found the run."""
        if not (self._full and self._writes()) or self._window.engine.behind:
            return SWIFT
        if self._pace is SWIFT:
            self._sparing.begin()
        else:
            self._sparing.looked()
        return self._sparing.pace

    def _look_around(self) -> None:
        """What changes seldom, and what a person reads."""
        for look in (self._look_at_history, self._look_at_engine, self._look_at_tokenizer):
            contained(look)
        if self._window.is_busy():
            self._window.show_status()
            self._follow_load()

    def _follow_load(self) -> None:
        self._load.measure(self._pids())
        if self._writes():
            self._full = self._load.share > FULL

    def _pids(self) -> list[int]:
        """Of the window and its engine."""
        engine = self._window.engine.pid
        return [os.getpid(), *([] if engine is None else [engine])]

    def _writes(self) -> bool:
        return any(trace is not None and trace.live and trace.tokens for trace in self._window.session.traces)

    def _keep(self, pace: Pace) -> None:
        self._pace = pace
        if self._timer.interval() != pace.beat_ms:  # setting it begins the time anew
            self._timer.setInterval(pace.beat_ms)
        self._window.engine.flush_every = pace.flush_every
        self._window.docks.rest = pace.rest

    def _look_at_history(self) -> None:
        kept, errors = self._window.keeper.done()
        if kept:
            self._window.history_view.invalidate()
            self._window.history_view.refresh()
        for error in errors:
            self._window.messages.error(error)

    def _look_at_engine(self) -> None:
        window = self._window
        if window.engine.state == "dead" and not self._death_told:
            self._death_told = True
            window.runner.abandon()
            window.messages.error(window.engine.death, "Restart engine", window.runs.restart_engine)
            self.job_ended()
        window.progress.facts.setText(f"engine {window.engine.state}")

    def _look_at_tokenizer(self) -> None:
        """Let the prompt count its tokens as soon as the model's tokenizer has been read."""
        window = self._window
        tokenizer = window.models.tokenizer(window.session.columns[0].config.model)
        if tokenizer is not self._tokenizer:
            self._tokenizer = tokenizer
            window.prompt.set_tokenize(partial(pieces, tokenizer) if tokenizer else None)
