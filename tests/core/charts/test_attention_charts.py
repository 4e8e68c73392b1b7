"""Attention charts: maps by position, patterns before the run, and summaries by head."""

from dataclasses import replace

import numpy as np
import pytest

from core.charts.attention_mask import pattern
from core.charts.catalogue import build
from core.charts.chart import Chart, Heatmap, has_data
from core.config import RunConfig
from core.errors import BadInput
from core.events import AttentionCaptured, Step, Token
from core.trace import Trace
from tests.traces import INFO, make_trace

SPARSE = RunConfig().set(["attention.name=sink_window", "attention.sinks=2", "attention.window=6"])
TRACES = [("A", make_trace()), ("B", make_trace(SPARSE, seed=1, diverges_at=30))]


def _map(chart: Chart) -> Heatmap:
    assert chart.heatmap is not None
    return chart.heatmap


def test_that_an_attention_map_holds_the_captured_weights_by_position() -> None:
    weights = np.arange(2 * 2 * 3, dtype=np.float16).reshape(2, 2, 3)
    trace = _text(6)
    trace.add(AttentionCaptured(-1, 0, 1, weights, np.array([0, 1, 2], np.int32)))
    trace.add(AttentionCaptured(0, 0, 4, np.full((2, 1, 2), 0.5, np.float16), np.array([3, 4], np.int32)))
    chart = build("attention_map", [("A", trace)], layer=0, head=1)
    values = _map(chart).values
    nan = np.nan
    expected = [[6, 7, nan, nan, nan], [9, 10, 11, nan, nan], [nan] * 5, [0, 0, 0, 0.5, 0.5]]
    assert np.array_equal(values, np.array(expected, np.float32), equal_nan=True)
    assert _map(chart).row_labels == ("1 b", "2 c", "3 d", "4 e")
    overlay = _map(chart).overlay
    assert overlay is not None
    assert overlay.tolist() == [[False] * 5] * 3 + [[True, True, True, False, False]], "evicted keys are veiled"
    assert "queries 0 to 0 were not captured" in chart.notes
    assert "1 query in between not captured" in chart.notes


def test_that_one_step_of_attention_can_be_shown_alone() -> None:
    trace = TRACES[0][1]
    assert _map(build("attention_map", [("A", trace)], layer=2, head=3, step=5)).values.shape[0] == 1
    whole = _map(build("attention_map", [("A", trace)], layer=2, head=3, step=-1))
    assert whole.values.shape == (15, 15)
    assert np.nansum(whole.values[7]) == pytest.approx(1.0, abs=1e-2)


def test_that_a_layer_or_head_that_was_not_captured_is_said() -> None:
    chart = build("attention_map", TRACES, layer=99)
    assert not has_data(chart)
    assert "choose one of 0, 1, 2, 3, 4, 5" in chart.empty
    assert not has_data(build("attention_map", TRACES, head=99))


@pytest.mark.parametrize(
    ("settings", "seen"),
    [
        ([], [1, 1, 1, 1, 1, 1]),
        (["attention.name=window", "attention.window=2"], [0, 0, 0, 0, 1, 1]),
        (["attention.name=sink_window", "attention.sinks=1", "attention.window=2"], [1, 0, 0, 0, 1, 1]),
        (["cache.name=rolling", "cache.window=3"], [0, 0, 0, 1, 1, 1]),
        (["attention.name=sink_window", "attention.window=2", "attention.layers=0"], [1, 1, 1, 1, 1, 1]),
    ],
    ids=["full", "window", "sinks", "rolling", "another layer"],
)
def test_that_a_pattern_is_drawn_before_the_run(settings: list[str], seen: list[int]) -> None:
    chart = pattern(RunConfig().set(settings), 6, layer=1, info=replace(INFO, layers=4))
    values = _map(chart).values
    assert values[-1].tolist() == seen
    assert np.isnan(values[0, 1:]).all()


def test_that_the_pattern_of_a_long_text_is_drawn_in_blocks() -> None:
    heatmap = _map(pattern(RunConfig().set(["attention.name=window", "attention.window=100"]), 1000))
    assert heatmap.values.shape == (250, 250)
    assert heatmap.values[200, 200 - 20] == 1.0
    assert heatmap.values[200, 100] == 0.0
    assert heatmap.row_labels[200] == "800"


def test_that_a_pattern_outside_the_model_is_bad_input() -> None:
    with pytest.raises(BadInput, match="30 layers"):
        pattern(RunConfig().set(["attention.name=window", "attention.layers=40"]), 6, layer=0, info=replace(INFO, layers=30))
    with pytest.raises(BadInput, match="layer=30: the model has layers 0 to 29"):
        pattern(RunConfig(), 6, layer=30, info=replace(INFO, layers=30))


def test_that_attention_summaries_are_means_over_the_captured_queries() -> None:
    weights = np.zeros((2, 2, 100), np.float16)
    weights[0, :, 0] = 1.0
    weights[1, 0, 98], weights[1, 1, :] = 1.0, 0.01
    trace = _text(101)
    trace.add(AttentionCaptured(0, 3, 98, weights, np.arange(100, dtype=np.int32)))
    values = {m: _map(build("attention_summary", [("A", trace)], measure=m)).values[0] for m in ("entropy", "first", "last")}
    assert values["entropy"] == pytest.approx([0.0, np.log(100) / 2], abs=2e-2)
    assert values["first"] == pytest.approx([1.0, 0.02], abs=1e-3)
    assert values["last"] == pytest.approx([0.0, (1 + 0.64) / 2], abs=1e-2)


def test_that_the_weight_another_pattern_keeps_is_told() -> None:
    kept = _map(build("attention_summary", TRACES, measure="kept")).values
    assert (kept > 0.3).all()
    assert (kept < 1).any()
    assert not has_data(build("attention_summary", TRACES[:1], measure="kept"))
    with pytest.raises(BadInput, match="measure=mass: there are entropy"):
        build("attention_summary", TRACES, measure="mass")


def _text(length: int) -> Trace:
    """A trace of `length` tokens in a model of six layers."""
    started = TRACES[0][1].started
    assert started is not None
    trace = Trace(started=replace(started, prompt_tokens=(), info=INFO))
    tokens = tuple(Token(index, index, chr(97 + index % 26), "sampled") for index in range(length))
    trace.add(Step(-1, tokens, 1.0, {}, 0, 0))
    return trace
