"""The docks: what they show of runs, when they repaint, and what that costs."""

import statistics
import time
from dataclasses import replace

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QFont

from core.charts.attention_map import attention_map
from core.config import RunConfig
from core.events import AttentionCaptured, Step, Token
from core.trace import Trace
from tests.traces import INFO, make_trace
from widgets.docks.attention import AttentionDock
from widgets.docks.cache import CacheDock
from widgets.docks.comparison import ComparisonDock
from widgets.docks.experts import ExpertsDock
from widgets.docks.latency import LatencyDock
from widgets.docks.memory import MemoryDock
from widgets.docks.quality import QualityDock
from widgets.docks.speculation import SpeculationDock

ALL = (AttentionDock, LatencyDock, MemoryDock, CacheDock, SpeculationDock, ExpertsDock, QualityDock, ComparisonDock)
LOOKUP = RunConfig().set(["decoding.name=prompt_lookup"])
SPARSE = RunConfig().set(["attention.name=sink_window", "attention.window=24", "ffn.name=moefy"])


@pytest.fixture
def shown(qtbot):
    def show(kind, traces=(), size=(520, 420)):
        dock = kind()
        qtbot.addWidget(dock)
        dock.resize(*size)
        dock.set_traces(list(traces))
        dock.show()
        qtbot.waitExposed(dock)
        return dock

    return show


@pytest.fixture(scope="module")
def runs():
    return [("A", make_trace(LOOKUP)), ("B", make_trace(SPARSE, seed=1, diverges_at=14))]


@pytest.mark.parametrize("kind", ALL)
def test_that_an_empty_dock_says_what_will_appear_and_how(shown, kind):
    dock = shown(kind)
    for chart in dock.charts():
        assert len(chart.empty) > 20


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("size", [(360, 280), (520, 420), (900, 600), (1400, 900)])
def test_that_every_dock_paints_at_every_size(shown, runs, kind, size):
    dock = shown(kind, runs, size)
    for index in range(dock.deck.tabs.count() if dock.deck.tabs.isVisible() else 1):
        dock.deck.tabs.setCurrentIndex(index)
        assert not dock.grab().isNull()
    assert (dock.width(), dock.height()) == size


@pytest.mark.parametrize("kind", ALL)
def test_that_a_hidden_dock_draws_nothing(qtbot, monkeypatch, runs, kind):
    dock = kind()
    qtbot.addWidget(dock)
    monkeypatch.setattr(dock, "chart_of", lambda _key: pytest.fail("drawn while hidden"))
    dock.set_traces(runs)
    dock.refresh()


def test_that_a_dock_draws_again_only_when_a_run_has_grown(shown, monkeypatch):
    trace = make_trace(inspect=False)
    dock = shown(LatencyDock, [("A", trace)])
    drawn = []
    build = dock.chart_of
    monkeypatch.setattr(dock, "chart_of", lambda key: (drawn.append(key), build(key))[1])
    dock.refresh()
    assert drawn == []
    trace.revision += 1
    dock.refresh()
    assert drawn == ["phases"]


def test_that_a_wide_dock_shows_all_charts_and_a_small_one_has_tabs(shown, runs):
    dock = shown(LatencyDock, runs, (520, 420))
    assert [chart.name for chart in dock.charts()] == ["latency_phases"]
    assert dock.deck.tabs.isVisible()
    dock.resize(900, 600)
    assert [chart.name for chart in dock.charts()] == ["latency_phases", "latency_tokens", "latency_histogram"]
    dock.resize(520, 420)
    assert dock.width() == 520
    assert dock.deck.tabs.isVisible()


def test_that_the_attention_dock_shows_the_planned_pattern_before_a_run(shown):
    dock = shown(AttentionDock)
    config = RunConfig().set(
        ["attention.name=sink_window", "attention.sinks=2", "attention.window=4", "attention.layers=last:2"]
    )
    dock.set_config(config, INFO, 32)
    dock.layer.choose(5)
    dock.redraw()
    chart = dock.charts()[0]
    assert chart.name == "attention_mask"
    assert np.flatnonzero(chart.heatmap.values[20, :21]).tolist() == [0, 1, 17, 18, 19, 20]


def test_that_a_plan_which_does_not_fit_the_model_says_why(shown):
    dock = shown(AttentionDock)
    dock.set_config(RunConfig().set(["attention.name=window", "attention.layers=40"]), INFO, 32)
    assert "layers=40" in dock.charts()[0].empty


def test_that_layer_head_pass_and_mask_choose_the_map(shown, runs):
    dock = shown(AttentionDock, runs)
    dock.which.choose("B")
    dock.redraw()
    dock.layer.choose(3)
    dock.head.choose(2)
    dock.redraw()
    chart = dock.charts()[0]
    assert chart.title == "Attention, layer 3, head 2"
    assert chart.heatmap.overlay.any()
    dock.veil.setChecked(False)
    assert dock.charts()[0].heatmap.overlay is None
    dock.passes.whole.setChecked(False)
    dock.passes.slider.setValue(4)
    assert dock.passes.name.text() == "pass 4 of 55"
    assert dock.charts()[0].heatmap.values.shape[0] == 1


def test_that_the_live_map_equals_the_one_built_at_once(shown):
    whole = make_trace(LOOKUP)
    live = Trace()
    dock = shown(AttentionDock, [("A", live)])
    for event in whole.events():
        live.add(event)
    grown = _fed(dock, whole)
    expected = attention_map([("A", whole)], layer=0).heatmap
    assert np.array_equal(grown.values, expected.values, equal_nan=True)


def _fed(dock, whole):
    """The dock's map after it was refreshed at every step of a run."""
    live = Trace(started=whole.started)
    dock.set_traces([("A", live)])
    captures = {one.step: one for one in whole.attention[0]}
    for step in whole.steps:
        live.add(captures[step.index])
        live.add(step)
        dock.refresh()
    return dock.charts()[0].heatmap


def test_that_picking_a_head_in_the_summary_opens_its_map(shown, qtbot, runs):
    dock = shown(AttentionDock, runs)
    dock.deck.show_chart("heads")
    canvas = dock.deck["heads"].canvas
    for key in (Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_Right, Qt.Key.Key_Return):
        qtbot.keyClick(canvas, key)
    assert dock.charts()[0].title == "Attention, layer 1, head 1"


def test_that_picking_a_small_map_opens_it_whole(shown, qtbot, runs):
    dock = shown(AttentionDock, runs)
    dock.deck.show_chart("grid")
    canvas = dock.deck["grid"].canvas
    rows, columns = canvas.chart.heatmap.values.shape
    layout = canvas.layout_of_chart()
    assert layout.x.labels == tuple(map(str, range(6)))
    middle = QPoint(int(layout.x.at(columns * 4.5 / 6)), int(layout.y.at(rows * 7.5 / 9)))
    qtbot.mouseMove(canvas, middle)
    qtbot.mouseDClick(canvas, Qt.MouseButton.LeftButton, pos=middle)
    assert dock.charts()[0].title == "Attention, layer 4, head 7"


def test_that_the_head_can_be_chosen_where_a_pattern_differs_by_head(shown):
    dock = shown(AttentionDock)
    bigbird = RunConfig().set(["attention.name=bigbird", "attention.block=2"])
    dock.set_config(bigbird, INFO, 60)
    dock.redraw()
    assert dock.head.isVisible()
    dock.set_config(RunConfig().set(["attention.name=window"]), INFO, 60)
    dock.redraw()
    assert not dock.head.isVisible()


def test_that_rejected_text_is_struck_through_and_in_sight(shown, runs):
    dock = shown(SpeculationDock, runs)
    dock.deck.show_chart("text")
    table = dock.deck["text"].twin.view
    names = [table.model().headerData(n, Qt.Orientation.Horizontal) for n in range(table.model().columnCount())]
    rejected = names.index("rejected")
    assert not table.isColumnHidden(rejected)
    assert table.columnViewportPosition(rejected) + 40 < table.viewport().width()
    font = table.model().index(0, rejected).data(Qt.ItemDataRole.FontRole)
    assert isinstance(font, QFont)
    assert font.strikeOut()
    assert table.model().rowCount() == len(runs[0][1].rounds)


def test_that_experts_follow_the_chosen_layer(shown, runs):
    dock = shown(ExpertsDock, runs)
    dock.layer.choose(4)
    dock.redraw()
    assert dock.charts()[0].title == "Expert routing, layer 4"


def test_that_a_comparison_names_noise_and_counts_only_whole_rounds(shown):
    a, b = ([make_trace(seed=base + n, inspect=False) for n in range(5)] for base in (0, 50))
    dock = shown(ComparisonDock)
    dock.set_repeats([("A", a), ("B", b[:4])])
    assert "4 repeats" in dock.charts()[0].notes[0]
    dock.set_repeats([("A", a), ("B", b)])
    assert "5 repeats" in dock.charts()[0].notes[0]
    assert any("noise" in note for note in dock.charts()[0].notes)


def test_that_an_old_run_leaves_nothing_in_the_selectors(shown, runs):
    dock = shown(AttentionDock, runs)
    dock.set_traces([("A", make_trace(inspect=False))])
    assert not dock.head.isVisible()
    assert dock.charts()[0].name == "attention_mask"


def _live_trace(length: int) -> Trace:
    """A run with a prompt of `length` tokens whose attention was captured in one layer of nine heads."""
    trace = make_trace(finished=False)
    token = trace.prompt_tokens[0]
    trace.started = replace(trace.started, prompt_tokens=tuple(replace(token, index=n, text=f" t{n}") for n in range(length)))
    trace.tokens, trace.steps, trace.rounds, trace.attention = [], [], [], {}
    weights = np.tril(np.random.default_rng(0).random((9, length, length))).astype(np.float16)
    trace.add(AttentionCaptured(-1, 0, 0, weights, np.arange(length, dtype=np.int32)))
    return trace


def _grow(trace: Trace, step: int) -> None:
    at = len(trace.all_tokens)
    phases = {"decode": 8.5, "decode.attention": 3.0, "decode.ffn": 4.0, "decode.head": 1.0, "sampling": 0.3}
    trace.add(AttentionCaptured(step, 0, at - 1, np.full((9, 1, at), 1 / at, np.float16), np.arange(at, dtype=np.int32)))
    trace.add(Step(step, (Token(at, 5, " x", "sampled", 9.0 + step % 5),), 9.0, phases, at, at * 100))


def _median_ms(dock, key, traces) -> float:
    """Processor time of one refresh and repaint, over 30 of them with a token each."""
    spent = []
    for step in range(30):
        for _, trace in traces:
            _grow(trace, step)
        start = time.thread_time()
        dock.refresh()
        dock.deck[key].canvas.repaint()
        spent.append(time.thread_time() - start)
    return statistics.median(spent) * 1000


@pytest.mark.parametrize(
    ("kind", "key"), [(AttentionDock, "map"), (LatencyDock, "phases"), (LatencyDock, "tokens"), (LatencyDock, "gaps")]
)
def test_that_a_live_dock_of_512_tokens_refreshes_in_under_8_ms(shown, kind, key):
    traces = [("A", _live_trace(482))] + ([("B", _live_trace(482))] if kind is LatencyDock else [])
    for _, trace in traces:
        for step in range(200 if kind is LatencyDock else 0):
            _grow(trace, step)
    dock = shown(kind, traces)
    dock.deck.show_chart(key)
    assert _median_ms(dock, key, traces) < 8
