"""`make run`: what it installs or names, and the job it does without a display."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PySide6.QtGui import QImage

from app import prepare, qt
from core.errors import RunFailed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """A package manager that writes down what it is told; returns that file."""
    told = tmp_path / "told"
    program = tmp_path / "apt-get"
    program.write_text(f'#!/bin/sh\necho "$@" >> {told}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(prepare, "is_fetched", lambda: True)
    return told


def _qt_says(monkeypatch, *answers):
    """Each look at Qt gives the next answer, and the last one from then on."""
    left = list(answers)
    monkeypatch.setattr(qt, "why_not", lambda *_: left.pop(0) if len(left) > 1 else left[0])


def test_that_qt_starts_without_a_display_and_a_failure_is_one_line():
    assert qt.why_not("offscreen") == ""
    reason = qt.why_not("nonsense")
    assert "nonsense" in reason
    assert "\n" not in reason


def test_that_nothing_is_installed_where_qt_starts(apt, monkeypatch):
    _qt_says(monkeypatch, "")
    prepare.prepare()
    assert not apt.exists()


def test_that_root_gets_the_missing_libraries_installed(apt, monkeypatch):
    _qt_says(monkeypatch, "ImportError: libEGL.so.1", "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    prepare.prepare()
    update, install = apt.read_text().splitlines()
    assert update == "update"
    assert install.startswith("install -y --no-upgrade")
    assert "libegl1" in install


def test_that_others_are_told_the_exact_command(apt, monkeypatch):
    _qt_says(monkeypatch, "ImportError: libEGL.so.1")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(RunFailed, match=r"libEGL\.so\.1.*sudo apt-get install .*libegl1"):
        prepare.prepare()
    assert not apt.exists()


def test_that_a_display_that_does_not_answer_is_no_matter_of_libraries(apt, monkeypatch):
    _qt_says(monkeypatch, "", "qt.qpa.xcb: could not connect to display :99")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(RunFailed, match="unset DISPLAY"):
        prepare.prepare(for_window=True)
    assert not apt.exists()


def test_that_without_a_display_the_same_job_is_done_in_the_terminal(tmp_path):
    display = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    hidden = {name: value for name, value in os.environ.items() if name not in display} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "app.launch"]
    done = subprocess.run(command, cwd=tmp_path, env=hidden, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "demo-output"
    assert "There is no display here" in done.stderr
    assert str(folder) in done.stdout
    assert "B wrote the same" in done.stdout
    assert {path.name for path in folder.iterdir()} == {"report.html", "window.png", "comparison.json", "A.trace", "B.trace"}
    picture = QImage(str(folder / "window.png"))
    assert (picture.width(), picture.height()) == (1600, 1000)
    assert len({picture.pixel(x, y) for x in range(0, 1600, 40) for y in range(0, 1000, 40)}) > 10
