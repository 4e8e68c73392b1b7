"""A chart that fails says so in its place, and leaves everything around it as it is."""

import logging
from pathlib import Path

import pytest

from core.charts.chart import table
from tests.charts_samples import line_chart, map_chart
from tests.traces import make_trace
from widgets import chart_canvas, chart_table, render
from widgets.chart_cursor import Place
from widgets.chart_view import ChartView
from widgets.docks.latency import LatencyDock


def fails(*_args, **_options):
    raise IndexError("index 7 is out of bounds\nfor axis 0")


@pytest.fixture
def view(qtbot):
    view = ChartView(line_chart())
    qtbot.addWidget(view)
    view.resize(520, 360)
    view.show()
    qtbot.waitExposed(view)
    return view


@pytest.fixture
def dock(qtbot):
    dock = LatencyDock()
    qtbot.addWidget(dock)
    dock.resize(900, 1200)
    dock.set_traces([("A", make_trace())])
    dock.show()
    qtbot.waitExposed(dock)
    return dock


def once(call):
    """Fails at the first call alone."""
    calls = []
    return lambda *args, **options: call(*args, **options) if calls else (calls.append(0), fails())


def test_that_a_chart_that_cannot_be_painted_says_what_failed_and_where_it_stands_in_full(view, monkeypatch, caplog):
    monkeypatch.setattr(chart_canvas, "paint", once(chart_canvas.paint))
    view.set_chart(map_chart())
    with caplog.at_level(logging.ERROR):
        assert not view.grab().isNull()
    said = view.canvas.chart.empty
    assert said.startswith("This chart failed: IndexError: index 7 is out of bounds. Please report it")
    assert said.endswith("window.log.")
    assert "\n" not in said
    assert caplog.records[0].exc_info[0] is IndexError


def test_that_a_chart_that_cannot_be_painted_keeps_its_numbers_and_the_next_one_is_painted(view, qtbot, monkeypatch):
    monkeypatch.setattr(chart_canvas, "paint", once(chart_canvas.paint))
    chart = map_chart()
    view.set_chart(chart)
    view.grab()
    assert view.chart is chart
    view.show_table(True)
    assert view.twin.model.contents == table(chart)
    view.show_table(False)
    qtbot.mouseMove(view.canvas, view.canvas.rect().center())
    view.set_chart(line_chart())
    assert not view.grab().isNull()
    assert view.canvas.chart is view.chart


def test_that_a_read_out_that_fails_is_said_in_the_charts_place(view, monkeypatch):
    monkeypatch.setattr(chart_canvas, "position", fails)
    view.canvas._point_at(Place(0, 1))
    view.grab()
    assert "IndexError" in view.canvas.chart.empty


def test_that_a_table_that_fails_is_said_in_its_place(view, monkeypatch):
    build = chart_table.table
    monkeypatch.setattr(chart_table, "table", lambda chart: fails() if chart.series else build(chart))
    view.show_table(True)
    assert not view.twin.model.contents.rows
    assert "IndexError" in view.twin.notes.text()
    view.show_table(False)
    assert view.canvas.chart is view.chart


def test_that_charts_beside_one_that_cannot_be_made_are_made(dock, monkeypatch):
    bad, *others = dock.deck.shown
    make = dock.chart_of
    monkeypatch.setattr(dock, "chart_of", lambda key: fails() if key == bad else make(key))
    dock.redraw()
    assert "IndexError: index 7" in dock.deck[bad].chart.empty
    assert dock.deck[bad].chart.title == dock.deck.title(bad)
    assert others
    for key in others:
        assert dock.deck[key].chart.series
    monkeypatch.setattr(dock, "chart_of", make)
    dock.redraw()
    assert dock.deck[bad].chart.series


def test_that_every_chart_says_so_where_what_goes_before_them_fails(dock, monkeypatch):
    monkeypatch.setattr(dock, "prepare", fails)
    dock.redraw()
    assert all("IndexError" in chart.empty for chart in dock.charts())


@pytest.mark.usefixtures("qapp")
@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_that_a_picture_that_fails_leaves_no_painter_at_work_and_no_file(tmp_path: Path, monkeypatch, ending):
    monkeypatch.setattr(render, "paint", fails)
    with pytest.raises(IndexError):
        render.save_chart(line_chart(), tmp_path / f"chart{ending}")
    assert not list(tmp_path.iterdir())
