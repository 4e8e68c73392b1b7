"""What the window does with the real engine on the default model, beyond a plain session."""

import os
import signal

import pytest
from pytestqt.qtbot import QtBot

from app.session import Column, Session
from core.config import RunConfig
from core.models.default import is_fetched
from tests.app.windows import shown_window, wait_for, wait_idle

pytestmark = pytest.mark.skipif(not is_fetched(), reason="the default model is not fetched")
PROMPT = "Name three colours of the sky, one a line."
FIRST = RunConfig().set(["run.max_new_tokens=16"])
SECOND = FIRST.set(["attention.name=sink_window", "attention.window=32", "decoding.name=prompt_lookup"])


@pytest.fixture(scope="module")
def window(request, tmp_path_factory):
    session = Session([Column(FIRST), Column(SECOND)], prompt=PROMPT, repeats=2)
    with shown_window(QtBot(request), tmp_path_factory.mktemp("window"), session=session) as window:
        yield window


def test_that_progress_is_shown_in_place_while_a_comparison_runs(qtbot, window):
    window.actions_["compare"].trigger()
    wait_for(qtbot, lambda: "repeat 1 of 2" in window.progress.text.text())
    assert window.progress.stop.isVisible()
    wait_for(qtbot, lambda: "%" in window.progress.figures.text())
    window.open_model("default")
    assert "stop it first" in window.messages.text.text()
    wait_idle(qtbot, window)
    assert not window.progress.stop.isVisible()
    assert window.session.columns[0].trace.attention
    assert not window.session.columns[0].repeats[0].attention
    assert window.docks["comparison"].deck["comparison_ratios"].chart.series


def test_that_a_chosen_alternative_continues_the_run(qtbot, window):
    trace, other = window.session.traces
    position = len(trace.prompt_tokens) + 2
    chosen = int(trace.tokens[2].top_ids[1])
    window.streams.continue_from.emit(0, position, chosen)
    wait_idle(qtbot, window)
    continued = window.session.columns[0].trace
    kept = [token.id for token in trace.all_tokens[:position]]
    assert [token.id for token in continued.prompt_tokens] == [*kept, chosen]
    assert window.session.columns[1].trace is other


def test_that_an_error_of_the_engine_is_said_in_place(qtbot, window):
    window.prompt.editor.setPlainText("word " * 9000)
    window.actions_["run"].trigger()
    wait_idle(qtbot, window)
    assert "context" in window.messages.text.text()
    assert window.engine.state == "idle"


def test_that_the_message_on_a_lost_engine_restarts_it(qtbot, window):
    os.kill(window.engine.pid, signal.SIGKILL)
    wait_for(qtbot, lambda: window.messages.remedy.isVisible())
    assert not window.actions_["run"].isEnabled()
    assert window.session.columns[0].trace.tokens
    window.messages.remedy.click()
    window.prompt.editor.setPlainText(PROMPT)
    assert window.can_run()
    before = window.session.columns[0].trace
    window.actions_["run"].trigger()
    wait_idle(qtbot, window)
    assert window.session.columns[0].trace is not before
    assert window.session.columns[1].trace.finished is not None
