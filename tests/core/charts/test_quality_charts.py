"""Charts of what was measured of a configuration's quality."""

from __future__ import annotations

import numpy as np
import pytest

from core.charts.catalogue import build
from core.charts.chart import has_data, table
from core.config import RunConfig
from core.errors import BadInput
from core.export.html import report
from core.quality.figures import FIGURES, figures
from core.trace import Trace, record
from tests.traces import make_needles, make_quality, make_trace

ROLLING = RunConfig().set(["cache.name=rolling", "cache.window=512"])


def _only(*events: object) -> Trace:
    """A trace that holds measurements and no run."""
    return record(events)  # type: ignore[arg-type]


def test_that_every_figure_stands_beside_its_error() -> None:
    measured = make_quality(ROLLING, seed=1)
    chart = build("quality_figures", [("A", _only(measured))])
    (row,) = table(chart).rows
    found = dict(zip(table(chart).columns, row, strict=True))
    assert found["techniques"] == "cache rolling · window=512"
    assert found["read as"] == "stream"
    assert found["tokens"] == 3200
    assert found["perplexity"] == pytest.approx(figures(measured.segments)["perplexity"], rel=1e-4)
    assert all(found[f"{metric.label} ± se"] is not None for metric in FIGURES.values())


def test_that_a_stream_is_drawn_for_each_configuration_and_the_unmodified_model() -> None:
    traces = [("A", _only(make_quality(ROLLING, seed=1))), ("B", _only(make_quality(ROLLING, seed=2)))]
    chart = build("quality_stream", traces)
    assert [series.label for series in chart.series] == ["A", "B", "unmodified"]
    assert [series.column for series in chart.series] == [0, 1, 0]
    assert chart.series[0].x[0] == 50
    assert np.all(chart.series[1].y > chart.series[0].y)
    assert np.all(chart.series[0].y > chart.series[2].y)
    assert any("passes" in note or "reads anew" in note for note in chart.notes)
    assert build("quality_stream", traces, measure="mean_kl").y_label == "mean KL (nats)"
    with pytest.raises(BadInput, match="measure=speed"):
        build("quality_stream", traces, measure="speed")


def test_that_the_unmodified_model_is_not_drawn_twice() -> None:
    traces = [("A", _only(make_quality())), ("B", _only(make_quality(ROLLING, seed=2)))]
    assert [series.label for series in build("quality_stream", traces).series] == ["A", "B"]


def test_that_the_needle_map_has_a_row_a_depth_and_a_column_a_length() -> None:
    sweep = make_needles(ROLLING, seed=1)
    chart = build("needle", [("A", _only(sweep))])
    assert chart.heatmap is not None
    assert (chart.heatmap.row_labels, chart.heatmap.column_labels) == (("0", "50", "100"), ("512", "1024", "2048"))
    assert np.array_equal(chart.heatmap.values, sweep.log_probability)
    recall = build("needle", [("A", _only(sweep))], measure="recall").heatmap
    assert recall is not None
    assert (recall.low, recall.high) == (0.0, 1.0)


def test_that_charts_of_a_run_are_empty_without_one_and_do_not_wait_for_it() -> None:
    trace = _only(make_quality(ROLLING))
    assert not trace.live
    for name in ("latency_phases", "quality", "attention_map", "memory"):
        chart = build(name, [("A", trace)])
        assert not has_data(chart)
        assert not any("not finished" in note for note in chart.notes)


def test_that_the_report_shows_what_was_measured_with_and_without_a_run() -> None:
    alone = report([("A", _only(make_quality(ROLLING, seed=1), make_needles(ROLLING)))])
    assert "Quality on a text" in alone
    assert "Needle in a haystack: recall" in alone
    assert "One configuration" in alone
    assert "<h2>Output</h2>" not in alone
    both = report([("A", make_trace()), ("B", _only(make_quality(ROLLING, seed=1)))])
    assert "<h2>Output</h2>" in both
    assert "cache rolling" in both
