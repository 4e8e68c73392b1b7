"""Measuring quality in the window: the real engine, the default model, a short text."""

import pytest
from pytestqt.qtbot import QtBot

from app.session import Column, Session
from core import trace_file
from core.config import RunConfig
from core.export.html import report
from core.models.default import is_fetched
from core.quality.request import NeedleOptions, QualityOptions
from tests.app.windows import WAIT, shown_window, wait_for, wait_idle

pytestmark = pytest.mark.skipif(not is_fetched(), reason="the default model is not fetched")
ROLLING = RunConfig().set(["cache.name=rolling", "cache.window=32", "run.max_new_tokens=4"])


@pytest.fixture(scope="module")
def window(request, tmp_path_factory):
    session = Session([Column(RunConfig()), Column(ROLLING)], prompt="Name a colour.", inspect=False)
    with shown_window(QtBot(request), tmp_path_factory.mktemp("window"), session=session) as window:
        yield window


def test_that_every_configuration_is_measured_and_shown(qtbot, window, text):
    window.quality.set_text(str(text))
    window.quality.kind.choose("stream")
    window.quality.button.click()
    assert window.quality.button.text() == "Stop"
    qtbot.waitUntil(lambda: not window.is_busy(), timeout=3 * WAIT)
    assert window.quality.button.text() == "Measure"
    dock = window.docks["quality"]
    assert dock.isVisible()
    assert [row[0] for row in dock.chart_of("figures").listing.rows] == ["A", "B"]
    assert [series.label for series in dock.chart_of("stream").series] == ["A", "B"]
    first, second = window.session.traces
    assert first.quality[0].segments[0].kl == 0
    assert second.quality[0].segments[0].kl > 0.01
    assert window.streams.columns[1].header.state.text() == "measured, not run yet"


def test_that_a_saved_trace_shows_its_measurements_again(window, tmp_path):
    path = tmp_path / "b.trace"
    window.files.save_trace_to(1, path)
    assert trace_file.load(path).quality == window.session.traces[1].quality
    assert "Quality on a text" in report([("A", trace_file.load(path))])


def test_that_a_run_keeps_what_was_measured(qtbot, window):
    window.session.columns[0].config = RunConfig().set(["run.max_new_tokens=4"])
    window.runs.run()
    wait_idle(qtbot, window)
    assert [len(trace.quality) for trace in window.session.traces] == [1, 1]
    assert all(trace.finished is not None for trace in window.session.traces)


def test_that_stop_ends_a_measurement_and_leaves_the_traces_alone(qtbot, window):
    before = [trace.revision for trace in window.session.traces]
    window.quality.set_text("")
    window.quality.kind.choose("windows")
    window.actions_["measure"].trigger()
    wait_for(qtbot, lambda: "is measured" in window.progress.text.text())
    assert "%" in window.progress.figures.text()
    window.quality.button.click()
    wait_idle(qtbot, window)
    assert [trace.revision for trace in window.session.traces] == before
    assert not window.messages.isVisible()


def test_that_a_text_that_cannot_be_read_is_told_in_place(qtbot, window):
    window.quality.set_text("/nowhere/text.txt")
    window.quality.button.click()
    wait_idle(qtbot, window)
    assert "cannot be read" in window.messages.text.text()


def test_that_the_panel_asks_for_what_its_selectors_say(window):
    panel = window.quality
    panel.set_text("")
    panel.kind.choose("needle")
    panel.lengths.choose("256,512")
    panel.column.choose(1)
    assert panel.asked().options == NeedleOptions(lengths="256,512")
    assert panel.asked().column == 1
    panel.kind.choose("windows")
    panel.tokens.choose(4096)
    panel.window_.choose(512)
    panel.column.choose(None)
    assert panel.asked().options == QualityOptions(tokens=4096, context=512)
    assert panel.asked().column is None
