"""What is painted piece by piece equals what is painted at once, and little of it is painted for a token."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QEvent, QObject
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from core.events import Step, Token
from core.trace import Trace
from tests.traces import make_trace
from widgets import theme
from widgets.labels import ElidedLabel
from widgets.quiet_bar import QuietBar
from widgets.streams import StreamsView
from widgets.token_colours import ColourMode


class Painted(QObject):
    """The heights of the stripes that a widget was asked to paint."""

    def __init__(self) -> None:
        super().__init__()
        self.heights: list[int] = []

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Paint:
            self.heights.append(event.region().boundingRect().height())
        return False


@pytest.fixture
def streams(qtbot: QtBot, qapp: QApplication) -> StreamsView:
    theme.apply(qapp, "dark")
    view = StreamsView()
    view.resize(500, 420)
    qtbot.addWidget(view)
    with qtbot.waitExposed(view):
        view.show()
    return view


def _grow(trace: Trace, count: int, text: str = " word") -> None:
    for _ in range(count):
        index = len(trace.all_tokens)
        shown = f"{text}{index % 13}" if index % 29 else "\n\n"
        trace.add(Step(index, (Token(index, index % 7, shown, "sampled", 1.0, (index % 10) / 10, 1.0),), 1.0, {}, index, index))


def _on_screen(view: StreamsView) -> QImage:
    QApplication.processEvents()
    return view.screen().grabWindow(view.winId()).toImage().convertToFormat(QImage.Format.Format_RGB32)


@pytest.mark.parametrize("mode", ["probability", "source", "divergence"])
def test_that_what_is_on_the_screen_is_what_painting_everything_gives(streams: StreamsView, mode: ColourMode) -> None:
    first, second = Trace(), Trace()
    first.started = second.started = make_trace().started
    streams.set_mode(mode)
    streams.set_traces([first, second])
    for count in (1, 3, 40, 2, 7, 150, 1, 5):
        _grow(first, count)
        _grow(second, count, " word" if count < 100 else " other")
        streams.refresh()
        QApplication.processEvents()
    bar = streams.columns[0].tokens.verticalScrollBar()
    bar.setValue(bar.value() - 70)
    seen = _on_screen(streams)
    for view in streams.columns:
        view.tokens.viewport().update()
    assert seen == _on_screen(streams)


def test_that_a_few_tokens_repaint_a_few_lines(streams: StreamsView) -> None:
    trace, painted = Trace(), Painted()
    trace.started = make_trace().started
    streams.set_traces([trace])
    _grow(trace, 400)
    streams.refresh()
    QApplication.processEvents()
    tokens = streams.columns[0].tokens
    tokens.viewport().installEventFilter(painted)
    for _ in range(20):
        _grow(trace, 3)
        streams.refresh()
        QApplication.processEvents()
    assert len(painted.heights) == 20
    assert max(painted.heights) <= 5 * tokens.line_height


def test_that_changing_figures_lay_nothing_out(qtbot: QtBot) -> None:
    label, bar = ElidedLabel("a"), QuietBar()
    for widget in (label, bar):
        qtbot.addWidget(widget)
        widget.show()
    size = label.sizeHint()
    label.setText("a text that is a good deal longer")
    assert label.sizeHint() == size
    assert label.text() == label.accessibleDescription() == "a text that is a good deal longer"
    bar.show_share(0.5)
    assert bar.value() == 500
    assert bar.updatesEnabled()
