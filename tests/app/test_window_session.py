"""A whole session in the real window, on the real default model, with the real engine process."""

import os
import signal

import pytest
from PySide6.QtCore import Qt

from app.session import Column, Session
from core.config import RunConfig
from core.models.default import is_fetched
from tests.app.windows import shown_window, wait_for, wait_idle

pytestmark = pytest.mark.skipif(not is_fetched(), reason="the default model is not fetched")
PROMPT = "Name three colours of the sky, one a line."
SECOND = RunConfig().set(
    ["attention.name=sink_window", "attention.window=32", "decoding.name=prompt_lookup", "run.max_new_tokens=24"]
)
FIRST = RunConfig().set(["run.max_new_tokens=24"])


@pytest.fixture
def window(qtbot, tmp_path):
    with shown_window(qtbot, tmp_path, session=Session([Column(FIRST), Column(SECOND)], repeats=2)) as window:
        yield window


def test_that_a_person_types_runs_stops_exports_and_opens_again(qtbot, window, tmp_path):
    # Type a prompt and run A and B with the keyboard.
    window.prompt.editor.setFocus()
    qtbot.keyClicks(window.prompt.editor, PROMPT)
    qtbot.keyClick(window, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert window.is_busy()
    wait_idle(qtbot, window)
    first, second = window.session.traces
    assert first.finished.reason in ("length", "eos")
    assert second.finished.reason in ("length", "eos")
    assert first.started.prompt == PROMPT
    assert first.attention
    assert window.streams.columns[0].trace is first

    # Both runs are in the history.
    window.actions_["show_history"].trigger()
    wait_for(qtbot, lambda: window.history_view.model.rowCount() == 2)

    # Stop a long run midway; what it made stays.
    window.prompt.length.edited.emit(2000)
    assert {config.run.max_new_tokens for config in window.session.configs} == {2000}
    window.actions_["run"].trigger()
    wait_for(qtbot, lambda: len(window.session.columns[0].trace.tokens) > 3 and window.session.columns[0].trace is not first)
    assert window.progress.stop.isVisible()
    window.open_model("default")
    assert "stop it first" in window.messages.text.text()
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    wait_idle(qtbot, window)
    stopped = window.session.columns[0].trace
    assert stopped.finished.reason == "stopped"
    assert 3 < len(stopped.tokens) < 2000

    # Export in six formats, and the report.
    chart = window.docks["latency"].charts()[0]
    for suffix in ("png", "svg", "pdf", "csv", "json", "html"):
        window.files.export_chart_to(chart, tmp_path / f"chart.{suffix}")
        assert (tmp_path / f"chart.{suffix}").stat().st_size > 200
    window.files.export_report_to(tmp_path / "report.html")
    assert PROMPT in (tmp_path / "report.html").read_text()

    # Save the trace and open it again.
    window.files.save_trace_to(0, tmp_path / "stopped.trace")
    window.files.open_from([tmp_path / "stopped.trace"])
    (opened,) = window.session.traces
    assert opened.text == stopped.text
    assert [token.id for token in opened.tokens] == [token.id for token in stopped.tokens]


def test_that_a_comparison_interleaves_and_shows_medians(qtbot, window):
    window.prompt.editor.setPlainText(PROMPT)
    window.actions_["compare"].trigger()
    wait_for(qtbot, lambda: "repeat" in window.progress.text.text())
    assert window.progress.figures.text().endswith("left") or "%" in window.progress.figures.text()
    wait_idle(qtbot, window)
    assert [len(column.repeats) for column in window.session.columns] == [2, 2]
    assert window.session.columns[0].trace.attention
    assert window.docks["comparison"].deck["comparison_ratios"].chart.series
    assert not window.session.columns[0].repeats[0].attention
    assert window.docks["comparison"].charts()[0].series


def test_that_a_chosen_alternative_continues_the_run(qtbot, window):
    window.prompt.editor.setPlainText(PROMPT)
    window.actions_["run"].trigger()
    wait_idle(qtbot, window)
    trace, other = window.session.traces
    position = len(trace.prompt_tokens) + 2
    other_token = int(trace.tokens[2].top_ids[1])
    window.streams.continue_from.emit(0, position, other_token)
    wait_idle(qtbot, window)
    continued = window.session.columns[0].trace
    kept = [token.id for token in trace.all_tokens[:position]]
    assert [token.id for token in continued.prompt_tokens] == [*kept, other_token]
    assert window.session.columns[1].trace is other


def test_that_a_killed_engine_leaves_the_window_alive_and_restarts(qtbot, window):
    window.prompt.editor.setPlainText(PROMPT)
    window.prompt.length.edited.emit(2000)
    window.actions_["run"].trigger()
    wait_for(qtbot, lambda: window.session.columns[0].trace is not None and bool(window.session.columns[0].trace.tokens))
    os.kill(window.engine.pid, signal.SIGKILL)
    wait_for(qtbot, lambda: window.messages.remedy.isVisible())
    assert not window.is_busy()
    assert not window.actions_["run"].isEnabled()
    assert window.session.columns[0].trace.tokens
    window.messages.remedy.click()
    window.prompt.length.edited.emit(8)
    wait_for(qtbot, window.can_run)
    window.actions_["run"].trigger()
    wait_idle(qtbot, window)
    assert window.session.columns[1].trace.finished is not None


def test_that_an_error_of_the_engine_is_said_in_place(qtbot, window):
    window.prompt.editor.setPlainText("word " * 9000)
    window.actions_["run"].trigger()
    wait_idle(qtbot, window)
    assert "context" in window.messages.text.text()
    assert window.engine.state == "idle"
