"""Recorded runs are read beside the window: progress, Stop, and what goes wrong."""

from functools import partial
from threading import Event
from time import monotonic, sleep

import pytest

from app.opener import Opener
from core import trace_file
from core.errors import BadInput
from tests.app.windows import shown_window, wait_for, wait_idle
from tests.traces import make_trace


@pytest.fixture
def opener():
    opener = Opener()
    yield opener
    opener.close()


def _ended(opener):
    """What `take` gives once the reading has ended."""
    until = monotonic() + 20
    while (show := opener.take()) is None:
        assert monotonic() < until
        sleep(0.005)
    return show


class _Slow:
    """A read that goes on until it is let go."""

    def __init__(self):
        self.go, self.told = Event(), Event()

    def __call__(self, progress):
        while not self.go.is_set():
            progress(0.5)
            self.told.set()
            sleep(0.005)
        return make_trace()


def test_that_runs_are_shown_in_order_once_they_are_read(opener, tmp_path):
    traces, shown = [make_trace(seed=0), make_trace(seed=1)], []
    for index, trace in enumerate(traces):
        trace_file.save(trace, tmp_path / f"{index}.trace")
    reads = [partial(trace_file.load, tmp_path / f"{index}.trace") for index in range(2)]
    opener.begin("2 traces", reads, shown.extend)
    assert opener.busy
    _ended(opener)()
    assert [trace.finished for trace in shown] == [trace.finished for trace in traces]
    assert not opener.busy


def test_that_progress_is_that_of_all_runs_together(opener):
    slow = _Slow()
    opener.begin("2 traces", [lambda _: make_trace(), slow], list)
    assert slow.told.wait(20)
    assert opener.status.text == "Opening 2 traces"
    assert opener.status.share == 0.75
    slow.go.set()
    _ended(opener)


def test_that_what_is_given_up_shows_nothing(opener):
    slow, shown = _Slow(), []
    opener.begin("a", [slow], shown.extend)
    assert slow.told.wait(20)
    with pytest.raises(BadInput, match="a is being opened: stop it first"):
        opener.begin("b", [slow], shown.extend)
    opener.stop()
    _ended(opener)()
    assert shown == []
    assert not opener.busy


def test_that_what_is_wrong_is_raised_where_it_would_be_shown(opener, tmp_path):
    opener.begin("a", [partial(trace_file.load, tmp_path / "none.trace")], list)
    with pytest.raises(BadInput, match="there is no such file"):
        _ended(opener)()


def test_that_the_window_tells_of_the_reading_and_stops_it(qtbot, tmp_path):
    traces, slow = (make_trace(),), _Slow()
    with shown_window(qtbot, tmp_path, traces=traces) as window:
        window.open_runs("long.trace", [slow], window.show_traces)
        wait_for(qtbot, lambda: window.progress.text.text() == "Opening long.trace" and window.progress.stop.isVisible())
        assert not window.actions_["run"].isEnabled()
        window.open_kept(1)
        assert "long.trace is being opened" in window.messages.text.text()
        window.actions_["stop"].trigger()
        wait_idle(qtbot, window)
        assert window.session.traces == traces
        assert window.actions_["run"].isEnabled()
