"""The history in a real window."""

from dataclasses import replace

import pytest
from PySide6.QtCore import Qt

from app.history_view import COLUMNS
from core.quality.figures import figures
from tests.app.windows import shown_window, wait_for, wait_idle
from tests.traces import make_trace


@pytest.fixture
def window(qtbot, tmp_path):
    with shown_window(qtbot, tmp_path, traces=(make_trace(), make_trace(seed=3, diverges_at=20))) as window:
        yield window


def test_that_a_kept_run_opens_from_the_history(qtbot, window):
    first, second = window.session.traces
    window.keeper.keep(first)
    window.actions_["show_history"].trigger()
    wait_for(qtbot, lambda: window.history_view.model.rowCount() == 1)
    window.history_view.table.selectRow(0)
    qtbot.keyClick(window.history_view.table, Qt.Key.Key_Return)
    wait_idle(qtbot, window)
    assert window.session.columns[0].trace.text == first.text
    assert window.session.columns[1].trace is second


def test_that_the_history_shows_what_is_measured_after_a_run(qtbot, window):
    trace = make_trace()
    window.session.columns[0].trace = trace
    window.keeper.keep(trace)
    window.actions_["show_history"].trigger()
    model, columns = window.history_view.model, list(COLUMNS)
    wait_for(qtbot, lambda: model.rowCount() == 1)
    trace.add(replace(trace.quality[0], segments=trace.quality[0].segments[:1]))
    window.keeper.measured(trace)
    shown = f"{figures(trace.quality[-1].segments)['perplexity']:.3g}"
    wait_for(qtbot, lambda: model.data(model.index(0, columns.index("Perplexity"))) == shown)
    assert model.data(model.index(0, columns.index("Mean KL"))).endswith("nats")
    assert model.data(model.index(0, columns.index("Needles"))).endswith("%")
