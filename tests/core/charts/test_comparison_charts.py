"""Charts of a comparison: medians with intervals, ratios to A, and what is noise."""

import numpy as np
import pytest

from core.charts.chart import has_data, table
from core.charts.comparison import COMPARISON_CHARTS, comparison_memory, comparison_ratios, comparison_table, comparison_tpot
from core.compare import summarise
from core.config import RunConfig
from core.metrics import METRICS
from tests.traces import make_trace

FASTER = RunConfig().set(["decoding.name=prompt_lookup"])
RUNS = [
    [make_trace(seed=n, inspect=False) for n in range(6)],
    [make_trace(FASTER, seed=n, inspect=False) for n in range(6)],
]
COMPARISON = summarise(RUNS)


@pytest.mark.parametrize("name", COMPARISON_CHARTS)
def test_that_every_comparison_chart_has_data_and_says_how_it_was_measured(name: str) -> None:
    chart = COMPARISON_CHARTS[name](COMPARISON, ["A", "B"])
    assert chart.name == name
    assert has_data(chart)
    assert COMPARISON.interval in chart.notes
    assert all(len(row) == len(table(chart).columns) for row in table(chart).rows)


@pytest.mark.parametrize("name", COMPARISON_CHARTS)
def test_that_a_comparison_of_nothing_says_what_to_do(name: str) -> None:
    chart = COMPARISON_CHARTS[name](summarise([[], []]), ["A", "B"])
    assert chart.empty.startswith("Press Compare")


def test_that_bars_are_medians_with_their_interval() -> None:
    chart = comparison_tpot(COMPARISON, ["A", "B"])
    values = [trace.finished.metrics["tpot_ms"] for trace in RUNS[0] if trace.finished]
    first = chart.series[0]
    assert first.y[0] == np.median(np.array(values, float))
    assert first.low is not None
    assert first.high is not None
    assert first.low[0] <= first.y[0] <= first.high[0]
    assert table(chart).columns == ("series", "x", "time (ms)", "low", "high")


def test_that_memory_is_one_chart_of_one_unit() -> None:
    chart = comparison_memory(COMPARISON, ["A", "B"])
    assert chart.categories == ("weights", "KV cache", "peak memory")
    assert chart.y_label == "memory (B)"


def test_that_ratios_leave_out_a_and_name_what_is_noise() -> None:
    chart = comparison_ratios(COMPARISON, ["A", "B"])
    assert [series.label for series in chart.series] == ["B", "A"]
    assert chart.series[1].kind == "horizontal_line"
    assert chart.series[0].y[chart.categories.index("TPOT")] < 0.8
    assert any("peak memory of B" in note for note in chart.notes)


def test_that_the_table_has_every_metric_with_unit_and_badge() -> None:
    listing = table(comparison_table(COMPARISON, ["A", "B"]))
    assert len(listing.rows) == len(METRICS)
    assert listing.columns == ("metric", "unit", "badge", "A", "A low", "A high", "B", "B low", "B high", "B / A", "B is noise")
