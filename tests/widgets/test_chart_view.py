"""The chart widget: read-out, keyboard, zoom, table twin and export."""

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication

from core.charts.chart import Chart, Series
from tests.charts_samples import ALL, bar_chart, empty_chart, interval_chart, line_chart, map_chart
from widgets import theme
from widgets.chart_cursor import Place, position
from widgets.chart_view import ChartView


@pytest.fixture
def shown(qtbot):
    def show(chart, size=(520, 360)):
        view = ChartView(chart)
        qtbot.addWidget(view)
        view.resize(*size)
        view.show()
        qtbot.waitExposed(view)
        return view

    return show


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("size", [(200, 120), (520, 360), (900, 600)])
def test_that_every_kind_of_chart_paints_at_every_size(shown, make, size):
    picture = shown(make(), size).grab().toImage()
    ground = picture.pixel(2, 2)
    inked = sum(picture.pixel(x, y) != ground for x in range(0, size[0], 3) for y in range(0, size[1], 3))
    assert inked > 20


def test_that_the_pointer_reads_out_the_value_with_its_unit(shown, qtbot):
    view = shown(line_chart())
    layout = view.canvas.layout_of_chart()
    at = position(view.chart, layout, Place(1, 7))
    qtbot.mouseMove(view.canvas, at.toPoint())
    expected = view.chart.series[1].y[7]
    assert view.canvas.accessibleDescription() == f"B: token 7, {expected:.1f} ms"


def test_that_the_pointer_reads_out_bars_with_their_interval(shown, qtbot):
    view = shown(interval_chart())
    at = position(view.chart, view.canvas.layout_of_chart(), Place(0, 0))
    qtbot.mouseMove(view.canvas, QPoint(int(at.x()), int(at.y()) + 20))
    assert view.canvas.accessibleDescription() == "A: TTFT, 30 ms (28 ms to 33 ms)"


def test_that_arrows_walk_over_cells_and_say_which_are_masked(shown, qtbot):
    view = shown(map_chart(masked=True))
    for key in (Qt.Key.Key_Down, Qt.Key.Key_End, Qt.Key.Key_Home, *[Qt.Key.Key_Down] * 40):
        qtbot.keyClick(view.canvas, key)
    value = float(view.chart.heatmap.values[11, 0])
    assert view.canvas.accessibleDescription() == f"query 11 a · key 0 b: {value:.3g} share (masked)"


def test_that_a_cell_with_no_number_says_so(shown, qtbot):
    view = shown(map_chart())
    qtbot.keyClick(view.canvas, Qt.Key.Key_Right)
    qtbot.keyClick(view.canvas, Qt.Key.Key_Right)
    assert view.canvas.accessibleDescription() == "query 0 a · key 1 b: no value"


def _scroll(canvas, at, steps):
    where = QPointF(at)
    event = QWheelEvent(
        where, canvas.mapToGlobal(where), QPoint(), QPoint(0, 120 * steps), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(canvas, event)


def test_that_the_wheel_zooms_around_the_pointer_and_zero_resets(shown, qtbot):
    view = shown(map_chart())
    before = view.canvas.layout_of_chart()
    centre = before.plot.center()
    cell = before.x.value(centre.x())
    _scroll(view.canvas, centre, 3)
    after = view.canvas.layout_of_chart()
    assert after.x.high - after.x.low < before.x.high - before.x.low
    assert after.x.value(centre.x()) == pytest.approx(cell, abs=0.5)
    assert view.reset_button.isVisible()
    qtbot.keyClick(view.canvas, Qt.Key.Key_0)
    assert view.canvas.layout_of_chart().x.low == before.x.low
    assert not view.reset_button.isVisible()


def test_that_zooming_out_never_leaves_the_data(shown):
    view = shown(line_chart())
    whole = view.canvas.layout_of_chart().x
    _scroll(view.canvas, view.canvas.layout_of_chart().plot.center(), -5)
    assert (view.canvas.layout_of_chart().x.low, view.canvas.layout_of_chart().x.high) == (whole.low, whole.high)


def test_that_dragging_pans_a_zoomed_chart(shown, qtbot):
    view = shown(line_chart())
    centre = view.canvas.layout_of_chart().plot.center()
    _scroll(view.canvas, centre, 4)
    before = view.canvas.layout_of_chart().x.low
    qtbot.mousePress(view.canvas, Qt.MouseButton.LeftButton, pos=centre.toPoint())
    qtbot.mouseMove(view.canvas, centre.toPoint() + QPoint(30, 0))
    qtbot.mouseRelease(view.canvas, Qt.MouseButton.LeftButton)
    assert view.canvas.layout_of_chart().x.low < before


def test_that_zoom_and_cursor_survive_newer_numbers(shown, qtbot):
    view = shown(line_chart(40))
    _scroll(view.canvas, view.canvas.layout_of_chart().plot.center(), 3)
    low = view.canvas.layout_of_chart().x.low
    qtbot.keyClick(view.canvas, Qt.Key.Key_Right)
    view.set_chart(line_chart(44))
    assert view.canvas.layout_of_chart().x.low == pytest.approx(low, abs=1.0)
    assert "A: token 0" in view.canvas.accessibleDescription()


def test_that_the_table_twin_lists_every_point(shown, qtbot):
    view = shown(bar_chart())
    qtbot.mouseClick(view.table_button, Qt.MouseButton.LeftButton)
    model = view.twin.view.model()
    assert view.table_shown
    assert model.rowCount() == 12
    assert [model.index(0, column).data() for column in range(3)] == ["attention", "A", "prefill"]


def test_that_export_carries_the_chart_shown(shown, qtbot):
    view = shown(line_chart())
    with qtbot.waitSignal(view.export_requested) as caught:
        next(action for action in view.menu().actions() if action.text() == "Export…").trigger()
    assert caught.args == [view.chart]


def test_that_an_empty_chart_answers_no_key_and_no_pointer(shown, qtbot):
    view = shown(empty_chart())
    qtbot.keyClick(view.canvas, Qt.Key.Key_Right)
    qtbot.mouseMove(view.canvas, QPoint(200, 200))
    assert view.canvas.grab().toImage().width() > 0


def test_that_a_theme_change_repaints(shown, qapp):
    theme.apply(qapp, "dark")
    view = shown(line_chart())
    dark = view.canvas.grab().toImage().pixelColor(2, 2).lightness()
    theme.apply(qapp, "light")
    assert view.canvas.grab().toImage().pixelColor(2, 2).lightness() > dark + 100


def test_that_missing_numbers_break_the_line_and_read_as_unavailable(shown, qtbot):
    series = Series("A", np.arange(4), np.array([1.0, np.nan, 3.0, 4.0]))
    view = shown(Chart("t", "T", "measured", "d", "token", "time (ms)", (series,)))
    qtbot.keyClick(view.canvas, Qt.Key.Key_Right)
    qtbot.keyClick(view.canvas, Qt.Key.Key_Right)
    assert view.canvas.accessibleDescription() == "A: token 1, unavailable"
