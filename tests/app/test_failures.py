"""An exception that nobody foresaw: told once, written in full, and the window goes on."""

import logging
import os
import re
import subprocess
import sys
import threading

import pytest
from PySide6.QtCore import QCoreApplication, QEvent, QObject, QTimer
from PySide6.QtGui import QGuiApplication, QPainter
from PySide6.QtWidgets import QWidget

from app import log
from app.cli.outcome import exit_code_of
from app.engine_process import Factories
from app.failures import Failures, contained, during
from app.session import Column, Session
from core.config import RunConfig
from core.errors import BadInput
from core.export import tables
from tests.app.windows import shown_window, wait_for, wait_idle
from widgets import chart_canvas, render
from widgets.docks.latency import LatencyDock
from widgets.failed_chart import failed

TOKENS = 40


def fails(*_args, **_options):
    raise ValueError("nobody foresaw this")


class Painted(QWidget):
    """Fails with its painter at work."""

    broken = True

    def paintEvent(self, event):
        painter = QPainter(self)
        painter.drawLine(0, 0, 9, 9)
        if self.broken:
            fails()


class Filter(QObject):
    def eventFilter(self, watched, event):
        if event.type() == QEvent.Type.User:
            fails()
        return False


@pytest.fixture
def told():
    """What was told while every exception was taken."""
    said: list[str] = []
    with Failures(lambda sentence, details: said.append(f"{sentence}\n{details}")).taken():
        yield said


@pytest.fixture
def window(qtbot, tmp_path):
    session = Session([Column(RunConfig().set([f"run.max_new_tokens={TOKENS}"]))], prompt="Say something.")
    replay = Factories("tests.benchmarks.replay:Engine")
    with (
        shown_window(qtbot, tmp_path, session=session, factories=replay) as window,
        Failures(window.messages.broke.emit).taken(),
    ):
        yield window


def run(qtbot, window):
    window.runs.run()
    wait_idle(qtbot, window)
    assert len(window.session.traces[0].tokens) == TOKENS


def test_that_an_exception_of_a_slot_is_told_once_with_its_traceback(qtbot, told):
    timer = QTimer(interval=5)
    timer.timeout.connect(fails)
    timer.start()
    qtbot.wait(100)
    timer.stop()
    assert len(told) == 1
    assert told[0].startswith("something in the window broke: ValueError: nobody foresaw this (")
    assert "in fails" in told[0]


def test_that_an_exception_while_painting_is_told_once_and_leaves_no_painter_at_work(qtbot, told):
    """Qt would warn of the painter, which fails a test, and may crash where it is still there at the end."""
    widget = Painted()
    qtbot.addWidget(widget)
    widget.show()
    for _ in range(5):
        widget.update()
        qtbot.wait(20)
    assert len(told) == 1
    assert "broke: ValueError: nobody foresaw this" in told[0], "without the names of the handlers around it"
    widget.broken = False
    widget.update()
    qtbot.wait(20)
    assert len(told) == 1


def test_that_an_exception_of_an_event_filter_is_told_once(qtbot, told):
    widget, watch = QWidget(), Filter()
    qtbot.addWidget(widget)
    widget.installEventFilter(watch)
    widget.show()
    for _ in range(5):
        QCoreApplication.postEvent(widget, QEvent(QEvent.Type.User))
    qtbot.waitUntil(lambda: bool(told))
    assert len(told) == 1


def test_that_errors_at_two_places_are_two_and_one_that_comes_again_later_is_told_again(told, monkeypatch):
    contained(fails)
    contained(lambda: 1 / 0)
    contained(fails)
    assert [re.search(r"\w+Error", one)[0] for one in told] == ["ValueError", "ZeroDivisionError"]
    monkeypatch.setattr(log, "QUIET", 0.0)
    contained(fails)
    assert len(told) == 3


def test_that_an_error_names_what_was_done_and_bad_input_is_told_as_it_is(told):
    def export():
        with during("the chart “Latency” could not be exported"):
            fails()

    def refuse():
        raise BadInput("weights.bits: 9 is out of range")

    contained(export)
    contained(refuse)
    assert told[0].startswith("the chart “Latency” could not be exported: ValueError: nobody")
    assert told[1].startswith("weights.bits: 9 is out of range\n")


def test_that_an_error_that_ends_a_thread_is_told_in_the_window(qtbot, window, caplog):
    assert exit_code_of(lambda: _with_a_thread_that_fails(qtbot)) == 0
    wait_for(qtbot, window.messages.isVisible)
    assert window.messages.text.text().startswith("the thread “side” broke: ValueError: nobody foresaw this (")
    assert window.messages.remedy.text() == "Copy details"
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError]
    run(qtbot, window)


def _with_a_thread_that_fails(qtbot):
    thread = threading.Thread(target=fails, name="side")
    thread.start()
    qtbot.waitUntil(lambda: not thread.is_alive())
    return 0


def test_that_the_command_line_shows_what_ends_a_thread_and_takes_its_leaving_for_none(capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)  # pytest-qt has its own
    before = threading.excepthook
    threads = [threading.Thread(target=target, name="side") for target in (fails, sys.exit)]

    def work():
        for thread in threads:
            thread.start()
            thread.join()
        return 0

    assert exit_code_of(work) == 0
    shown = capsys.readouterr().err
    assert shown.count("Traceback") == shown.count("ValueError: nobody foresaw this\nthe thread “side” broke") == 1
    assert threading.excepthook is before


def test_that_the_log_holds_an_error_once_in_full(tmp_path):
    script = (
        "import pathlib, sys; from app import log; from app.failures import Failures, contained\n"
        "log.write_to(pathlib.Path(sys.argv[1]))\n"
        "with Failures(print).taken():\n    for _ in range(3): contained(lambda: 1 / 0)\n"
    )
    path = tmp_path / "logs" / "window.log"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    for text in (path.read_text(), done.stderr):
        assert text.count("ZeroDivisionError") == text.count("Traceback") == 1


def test_that_a_slot_that_fails_is_said_in_place_and_the_next_run_works(qtbot, window):
    QTimer.singleShot(0, fails)
    wait_for(qtbot, window.messages.isVisible)
    assert window.messages.kind == "error"
    assert "nobody foresaw this" in window.messages.text.text()
    window.messages.remedy.click()
    assert "Traceback" in QGuiApplication.clipboard().text()
    assert not window.messages.isVisible()
    run(qtbot, window)


@pytest.mark.parametrize("broken", ["streams.refresh", "plan", "follow_runs", "keeper.done"])
def test_that_a_part_of_the_window_that_fails_does_not_hold_up_a_run(qtbot, window, monkeypatch, broken):
    *path, name = broken.split(".")
    part = window
    for step in path:
        part = getattr(part, step)
    with monkeypatch.context() as patch:
        patch.setattr(part, name, fails)
        run(qtbot, window)
        wait_for(qtbot, window.messages.isVisible)
    assert not window.progress.stop.isVisible()
    run(qtbot, window)
    assert not window.messages.isVisible(), "a run that begins clears what was said"


def test_that_an_event_that_fails_does_not_keep_the_job_from_ending(qtbot, window, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(type(window.runner), "_record", fails)
        window.runs.run()
        wait_idle(qtbot, window)
    assert window.messages.isVisible()
    run(qtbot, window)


def test_that_a_chart_that_cannot_be_made_says_so_in_its_dock_and_the_run_goes_on(qtbot, window, monkeypatch, caplog):
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(LatencyDock, "chart_of", fails)
        run(qtbot, window)
    dock = window.docks["latency"]
    assert all("ValueError: nobody foresaw this" in dock.deck[key].chart.empty for key in dock.deck.shown)
    assert not window.messages.isVisible()
    run(qtbot, window)
    assert all("nobody" not in dock.deck[key].chart.empty for key in dock.deck.shown)


def test_that_a_chart_that_cannot_be_painted_says_so_and_the_run_goes_on(qtbot, window, monkeypatch):
    paint = chart_canvas.paint
    with monkeypatch.context() as patch:
        patch.setattr(chart_canvas, "paint", lambda *args: fails() if args[1].series else paint(*args))
        run(qtbot, window)
        wait_for(qtbot, lambda: any("nobody" in window.docks["latency"].deck[key].canvas.chart.empty
                                    for key in window.docks["latency"].deck.shown))  # fmt: skip
    assert not window.messages.isVisible()
    run(qtbot, window)


def test_that_an_export_that_fails_names_the_chart_and_writes_nothing(qtbot, window, monkeypatch, tmp_path):
    run(qtbot, window)
    chart = window.docks["latency"].charts()[0]
    with monkeypatch.context() as patch:
        patch.setattr(render, "paint", fails)
        QTimer.singleShot(0, lambda: window.files.export_chart_to(chart, tmp_path / "chart.png"))
        wait_for(qtbot, window.messages.isVisible)
    assert f"the chart “{chart.title}” could not be exported: ValueError" in window.messages.text.text()
    assert not (tmp_path / "chart.png").exists()
    window.files.export_chart_to(chart, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 200
    run(qtbot, window)


@pytest.mark.parametrize("ending", ["png", "csv", "json", "html"])
def test_that_a_chart_that_failed_is_not_exported_as_an_empty_file(window, tmp_path, ending):
    path = tmp_path / f"chart.{ending}"
    path.write_text("what was there")
    broken = failed("latency_tokens", "Each token", ValueError("nobody foresaw this"))
    window.attempt(lambda: window.files.export_chart_to(broken, path))
    text = window.messages.text.text()
    assert f"{path.name} is not written: the chart “Each token” has no data (This chart failed: ValueError: nobody" in text
    assert [file.name for file in tmp_path.glob("*chart*")] == [path.name]
    assert path.read_text() == "what was there"


@pytest.mark.parametrize(("ending", "where"), [("csv", "table"), ("json", "table"), ("csv", "fsync"), ("html", "fsync")])
def test_that_a_file_that_is_there_outlives_an_export_that_fails(qtbot, window, monkeypatch, tmp_path, ending, where):
    run(qtbot, window)
    chart, path = window.docks["latency"].charts()[0], tmp_path / f"chart.{ending}"
    path.write_text("what was there")
    with monkeypatch.context() as patch:
        patch.setattr({"table": tables, "fsync": os}[where], where, fails)
        QTimer.singleShot(0, lambda: window.files.export_chart_to(chart, path))
        wait_for(qtbot, window.messages.isVisible)
    assert f"the chart “{chart.title}” could not be exported: ValueError" in window.messages.text.text()
    assert path.read_text() == "what was there"
    assert not list(tmp_path.glob(".*"))
