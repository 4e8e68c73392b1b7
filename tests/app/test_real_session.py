"""A whole session on the default model: the real window, the real engine process, what a person types and presses."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QComboBox
from pytestqt.qtbot import QtBot

from app.main_window import Window
from app.session import Session
from core import trace_file
from core.charts.catalogue import CHARTS, build
from tests.app.windows import shown_window, wait_for, wait_idle

PROMPT = "Name three colours of the rainbow."
SIGNATURES = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "csv": b"", "json": b"{", "html": b"<!doctype html"}


@pytest.fixture(scope="module")
def window(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Window]:
    with shown_window(QtBot(request), tmp_path_factory.mktemp("session"), session=Session()) as shown:
        yield shown


def type_prompt(qtbot: Any, window: Window, text: str) -> None:
    window.prompt.editor.setFocus()
    qtbot.keyClick(window.prompt.editor, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    qtbot.keyClicks(window.prompt.editor, text)


def choose(window: Window, family: str, name: str) -> None:
    """Pick a technique in the card of the configuration that is shown, as a click on its list would."""
    selector: QComboBox = window.cards.panel.cards[family].selector
    selector.setCurrentIndex(selector.findText(name))
    selector.activated.emit(selector.currentIndex())


def test_that_a_and_b_run_as_typed_and_toggled(qtbot: Any, window: Window) -> None:
    type_prompt(qtbot, window, PROMPT)
    window.prompt.set_max_new_tokens(24)
    window.cards.set_max_new_tokens(24)
    window.actions_["add"].trigger()
    choose(window, "weights", "rtn")
    choose(window, "attention", "sink_window")
    assert [config.weights.name for config in window.session.configs] == ["native", "rtn"]
    qtbot.keyClick(window.prompt.editor, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert window.is_busy()
    wait_idle(qtbot, window)
    first, second = window.session.traces
    assert first is not None
    assert second is not None
    assert first.finished is not None
    assert second.finished is not None
    assert first.started is not None
    assert first.started.prompt == PROMPT
    assert first.text.strip()
    assert first.attention
    assert all(token.probability is not None for token in first.tokens)


def test_that_a_comparison_measures_both_and_marks_where_they_part(qtbot: Any, window: Window) -> None:
    window.header.repeats.setValue(2)
    window.actions_["compare"].trigger()
    wait_idle(qtbot, window)
    assert [len(column.repeats) for column in window.session.columns] == [2, 2]
    assert window.docks["comparison"].isVisible()
    assert any(chart.series for chart in window.docks["comparison"].charts())


def test_that_a_run_is_stopped_midway(qtbot: Any, window: Window) -> None:
    window.actions_["remove_1"].trigger()
    window.cards.set_max_new_tokens(2000)
    window.prompt.set_inspect(False)
    type_prompt(qtbot, window, "Write a very long story about a lighthouse.")
    before = window.session.traces[0]
    window.actions_["run"].trigger()
    wait_for(qtbot, lambda: window.session.traces[0] is not before and len(window.labelled()[0][1].tokens) > 5)
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    qtbot.keyClick(window.prompt.editor, Qt.Key.Key_Escape)
    wait_idle(qtbot, window)
    trace = window.session.traces[0]
    assert trace is not None
    assert trace.finished is not None
    assert trace.finished.reason == "stopped"
    assert 5 < len(trace.tokens) < 2000


def test_that_a_stopped_engine_leaves_no_core_busy(qtbot: Any, window: Window) -> None:
    engine = psutil.Process(window.engine.pid)
    before = sum(engine.cpu_times()[:2])
    qtbot.wait(1000)
    assert sum(engine.cpu_times()[:2]) - before < 0.2


@pytest.mark.parametrize("ending", SIGNATURES)
def test_that_charts_export_in_six_formats(window: Window, tmp_path: Path, ending: str) -> None:
    chart, path = build("latency_tokens", window.labelled()), tmp_path / f"chart.{ending}"
    window.files.export_chart_to(chart, path)
    content = path.read_bytes()
    assert content.lower().startswith(SIGNATURES[ending].lower())
    assert len(content) > 200
    if ending == "svg":
        text = " ".join(ElementTree.fromstring(content).itertext())
        assert chart.title in text


def test_that_the_trace_is_saved_and_opens_again(qtbot: Any, window: Window, tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    window.files.save_trace_to(0, path)
    kept = window.session.traces[0]
    assert kept is not None
    window.files.open_traces_from([path])
    wait_idle(qtbot, window)
    reopened = window.session.traces[0]
    assert reopened is not None
    assert reopened is not kept
    assert [token.id for token in reopened.tokens] == [token.id for token in kept.tokens]
    assert reopened.text == kept.text
    for name, builder in CHARTS.items():
        traces = [("A", reopened)]
        assert builder.build(traces[:1] if builder.single else traces).name == name
    assert trace_file.load(path).finished == kept.finished


def test_that_the_run_is_in_the_history(qtbot: Any, window: Window) -> None:
    wait_for(qtbot, lambda: len(window.history.search("lighthouse")) == 1)


def test_that_a_killed_engine_leaves_the_window_alive_and_restarts(qtbot: Any, window: Window) -> None:
    window.cards.set_max_new_tokens(500)
    window.actions_["run"].trigger()
    wait_for(qtbot, lambda: window.session.traces[0] is not None and bool(window.session.traces[0].tokens))
    os.kill(window.engine.pid, signal.SIGKILL)
    wait_for(qtbot, lambda: window.engine.state == "dead" and not window.is_busy())
    assert window.messages.isVisible()
    window.actions_["restart"].trigger()
    window.cards.set_max_new_tokens(4)
    window.actions_["run"].trigger()
    wait_idle(qtbot, window)
    trace = window.session.traces[0]
    assert trace is not None
    assert trace.finished is not None
    assert len(trace.tokens) == 4
