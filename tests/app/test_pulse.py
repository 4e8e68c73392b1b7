"""How often the window looks at a run, and what it takes of the processor."""

from contextlib import AbstractContextManager
from itertools import count
from math import inf
from pathlib import Path
from typing import Any

import pytest

from app import dock_area, engine_client, pulse
from app.engine_process import Factories
from app.main_window import Window
from app.pace import SPARING, SWIFT, Pace, Sparing
from app.session import Column, Session
from core.config import RunConfig
from tests.app.windows import shown_window, wait_for, wait_idle
from widgets.docks.panel import DockPanel

TOKENS = 900  # of a run that lasts about a second


def _opened(qtbot: Any, folder: Path) -> AbstractContextManager[Window]:
    """A window whose engine replays a made-up run."""
    session = Session([Column(RunConfig().set([f"run.max_new_tokens={TOKENS}"]))], prompt="Say something.")
    return shown_window(qtbot, folder, session=session, factories=Factories("tests.benchmarks.replay:Engine"))


def _paces(qtbot: Any, window: Window, monkeypatch: pytest.MonkeyPatch) -> list[Pace]:
    """Those of a run, one after another."""
    paces: list[Pace] = []
    keep = pulse.Pulse._keep

    def note(self: pulse.Pulse, pace: Pace) -> None:
        paces.extend([pace] if paces[-1:] != [pace] else [])
        keep(self, pace)

    with monkeypatch.context() as patch:
        patch.setattr(pulse.Pulse, "_keep", note)
        window.runs.run()
        wait_idle(qtbot, window)
    return paces


def test_that_a_run_with_the_whole_processor_is_followed_sparingly_and_nothing_of_it_is_lost(
    qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the window takes in all that comes, which it does here however busy the machine is."""
    monkeypatch.setattr(pulse, "FULL", -1.0)
    monkeypatch.setattr(engine_client, "POLL_FOR", 10.0)
    with _opened(qtbot, tmp_path) as window:
        swift, *sparing = _paces(qtbot, window, monkeypatch)
        assert swift == SWIFT
        assert sparing
        assert all(pace.beat_ms >= SPARING.beat_ms for pace in sparing)
        assert window.engine.flush_every == sparing[-1].flush_every
        trace = window.session.traces[0]
        assert trace is not None
        assert len(trace.tokens) == TOKENS
        assert trace.finished is not None
        assert len(window.streams.columns[0].tokens.items) == len(trace.all_tokens)
        window.runs.run()
        wait_for(qtbot, lambda: (live := window.session.traces[0]) is not None and live.live and len(live.tokens) > 1)
        assert window.engine.flush_every >= SPARING.flush_every, "as the run before, from the first token on"
        window.runs.stop()
        wait_idle(qtbot, window)


def test_that_a_run_that_leaves_processors_is_followed_swiftly(
    qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "FULL", 2.0)
    with _opened(qtbot, tmp_path) as window:
        assert _paces(qtbot, window, monkeypatch) == [SWIFT]
        assert SWIFT.flush_every < SWIFT.beat_ms / 1000, "every look finds something"


@pytest.mark.parametrize(("seconds", "beat_ms"), [(0.001, 200), (0.004, 200), (0.006, 300), (0.03, 400)])
def test_that_looks_that_take_more_come_less_often(seconds: float, beat_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.pace.process_time", count(0, seconds).__next__)
    sparing = Sparing()
    assert sparing.pace == SPARING
    for _ in range(3):
        sparing.looked()
    assert sparing.pace.beat_ms == beat_ms
    assert sparing.pace.flush_every < beat_ms / 1000, "every look finds something"


def _panels(window: Window) -> int:
    """How many docks with charts can be seen."""
    return sum(isinstance(dock.widget, DockPanel) for dock in window.docks.visible())


def _rests(window: Window) -> bool:
    """Whether what was refreshed has been painted, and the time until the next one is known."""
    return window.docks._not_before < inf


def test_that_docks_take_turns(qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of its own, which stands still while a busy machine takes its time."""
    clock, refreshed = [1000.0], list[str]()
    monkeypatch.setattr(dock_area, "monotonic", lambda: clock[0])
    monkeypatch.setattr(DockPanel, "refresh", lambda self: refreshed.append(type(self).__name__))
    with _opened(qtbot, tmp_path) as window:
        window.docks.rest = 0
        wait_for(qtbot, lambda: _panels(window) == 2 and _rests(window) and not window.docks._titles.isActive())
        clock[0] += dock_area.LEAST_REST
        refreshed.clear()
        for _ in range(4):
            window.docks.refresh()
            window.docks.refresh()  # too soon: what was refreshed is not painted yet
            wait_for(qtbot, lambda: _rests(window))
            window.docks.refresh()  # too soon
            clock[0] += dock_area.LEAST_REST
        assert refreshed == refreshed[:2] * 2
        assert len(set(refreshed)) == 2
        refreshed.clear()
        window.docks.refresh(at_once=True)
        assert len(set(refreshed)) == len(refreshed) == 2
