"""The header of the window: what it says of the model, in little room too."""

from dataclasses import replace

import pytest
from PySide6.QtWidgets import QStyle

from tests.app.windows import shown_window, wait_for
from tests.traces import make_trace


@pytest.fixture(scope="module")
def trace():
    return make_trace()


@pytest.fixture
def window(qtbot, tmp_path, trace):
    with shown_window(qtbot, tmp_path, traces=(trace,)) as window:
        yield window


@pytest.mark.parametrize("mode", ["dark", "light"])
def test_that_the_narrowest_window_names_the_model_in_full(qtbot, window, trace, mode):
    name = window.header.model.name
    window.use_theme(mode)
    window.resize(window.minimumSize())
    qtbot.waitUntil(lambda: window.width() == 1024 and name.window().isVisible())
    assert name.text() == trace.started.info.name == "SmolLM2-135M-Instruct.Q4_1"
    assert name.fontMetrics().horizontalAdvance(name.text()) <= name.contentsRect().width()
    window.use_theme("dark")


def test_that_a_name_too_long_for_the_window_keeps_its_beginning_and_end_and_is_its_tooltip(qtbot, window, trace, monkeypatch):
    long = f"SmolLM2-135M-{'Instruct-' * 6}Q4_1"
    drawn = []
    monkeypatch.setattr(QStyle, "drawItemText", lambda _style, *args: drawn.append(args[5]))
    window.header.model.show_model(long, replace(trace.started.info, name=long))
    window.resize(window.minimumSize())
    wait_for(qtbot, lambda: window.header.model.name.toolTip() == long)
    shown = next(text for text in drawn if text.startswith("SmolLM2-135M-") and "…" in text)
    assert shown.endswith("Q4_1")
