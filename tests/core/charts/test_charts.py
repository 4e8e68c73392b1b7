"""Every chart is true to its trace, and says what to do when there is nothing to show."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from core.charts.catalogue import CHARTS, build
from core.charts.chart import Chart, Heatmap, Series, has_data, table
from core.charts.latency_phases import ORDER, leaves, stages
from core.charts.palette import PHASES, tone_of
from core.config import RunConfig
from core.errors import BadInput
from core.events import Round, RoutingCaptured, Step, Token
from core.trace import Trace, record
from tests.traces import make_events, make_trace

SPARSE = RunConfig().set(
    ["ffn.name=moefy", "decoding.name=prompt_lookup", "attention.name=sink_window", "attention.sinks=2", "attention.window=6"]
)
TRACES = [("A", make_trace()), ("B", make_trace(SPARSE, seed=1, diverges_at=30))]


def _map(chart: Chart) -> Heatmap:
    assert chart.heatmap is not None
    return chart.heatmap


def _series(chart: Chart, label: str) -> Series:
    return next(series for series in chart.series if series.label == label)


def _shown(name: str) -> Chart:
    return build(name, TRACES[1:] if CHARTS[name].dock == "experts" or name == "attention_mass" else TRACES)


@pytest.mark.parametrize("name", CHARTS)
def test_that_every_chart_has_data_from_a_full_run(name: str) -> None:
    chart = _shown(name)
    assert chart.name == name
    assert has_data(chart)
    assert chart.title
    assert chart.definition.endswith(".")
    assert chart.badge in ("measured", "derived")
    assert table(chart).rows


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize("traces", [[], [("A", Trace())], [("A", Trace()), ("B", Trace())]], ids=["none", "empty", "two empty"])
def test_that_every_chart_without_data_says_what_to_do(name: str, traces: list[tuple[str, Trace]]) -> None:
    chart = build(name, traces)
    assert not has_data(chart)
    assert chart.empty.endswith(".")
    assert not table(chart).rows


@pytest.mark.parametrize("name", CHARTS)
def test_that_every_chart_can_be_drawn_at_every_moment_of_a_run(name: str) -> None:
    trace = Trace()
    for event in make_events(SPARSE):
        trace.add(event)
        table(build(name, [("A", trace), ("B", TRACES[1][1])]))


@pytest.mark.parametrize("name", CHARTS)
def test_that_table_twins_have_a_cell_for_every_column(name: str) -> None:
    twin = table(_shown(name))
    assert all(len(row) == len(twin.columns) for row in twin.rows)


def test_that_an_unknown_chart_and_selection_are_named() -> None:
    with pytest.raises(BadInput, match="no chart 'memroy'; did you mean memory"):
        build("memroy", TRACES)
    with pytest.raises(BadInput, match="attention_map has no selection 'layers'; did you mean layer"):
        build("attention_map", TRACES, layers=1)
    with pytest.raises(BadInput, match="attention_map: head is a number, not 'x'"):
        build("attention_map", TRACES, head="x")


def test_that_phases_add_up_to_the_time_of_the_steps() -> None:
    trace = TRACES[1][1]
    for step in trace.steps:
        assert sum(leaves(step).values()) == pytest.approx(step.ms)
    assert sum(sum(stage.phases.values()) for stage in stages(trace)) == pytest.approx(sum(s.ms for s in trace.steps))
    chart = build("latency_phases", TRACES, per="run")
    bars = [s for s in chart.series if s.column == 1]
    top = max(float(s.base[2] + s.y[2]) for s in bars if s.base is not None and np.isfinite(s.y[2]))
    assert top == pytest.approx(sum(s.ms for s in trace.steps if "verify" in s.phases))


def test_that_time_outside_every_phase_and_unsplit_passes_are_shown() -> None:
    phases = leaves(Step(0, (), 10.0, {"decode": 7.0, "decode.ffn": 4.0, "sampling": 1.0}, 0, 0))
    assert phases == {"ffn": 4.0, "sampling": 1.0, "other": 5.0}
    assert leaves(Step(0, (), 10.0, {"decode": 7.0}, 0, 0)) == {"whole pass": 7.0, "other": 3.0}


def test_that_every_bar_of_phases_has_a_colour() -> None:
    assert all(tone_of(series.key) for series in build("latency_phases", TRACES).series)


@pytest.mark.parametrize("dark", [True, False])
def test_that_no_two_phases_of_a_bar_look_alike(dark: bool) -> None:
    colours = [bytes.fromhex(PHASES[name].on(dark)[1:]) for name in (*ORDER, "other")]
    apart = [sum(abs(a - b) for a, b in zip(one, two, strict=True)) for one, two in combinations(colours, 2)]
    assert min(apart) > 50


def test_that_tokens_of_one_pass_share_its_time() -> None:
    tokens = tuple(replace(_token(i), ms=12.0 if i == 1 else 0.0) for i in (1, 2, 3))
    trace = record([Step(-1, (_token(0),), 40.0, {}, 0, 0), Step(0, tokens, 12.0, {}, 0, 0)])
    chart = build("latency_tokens", [("A", trace)])
    assert _series(chart, "A, a token").y.tolist() == [4.0, 4.0, 4.0]
    assert _series(chart, "A, a token").x.tolist() == [2, 3, 4]
    assert _series(chart, "A, a pass").y.tolist() == [12.0]
    assert chart.badge == "derived"
    assert build("latency_tokens", TRACES[:1]).badge == "measured"


def test_that_a_histogram_counts_every_gap_once() -> None:
    chart = build("latency_histogram", TRACES)
    for series, (_, trace) in zip(chart.series, TRACES, strict=True):
        assert series.y.sum() == len(trace.steps) - 1


@pytest.mark.parametrize("name", ["latency_phases", "latency_tokens", "latency_histogram"])
def test_that_a_timing_taken_while_capturing_says_so(name: str) -> None:
    said = "timed while capturing attention, routing and the 256 likeliest tokens, which costs time"
    assert said in build(name, TRACES[:1]).notes
    assert not any("captur" in note for note in build(name, [("A", make_trace(inspect=False))]).notes)


def test_that_memory_is_unavailable_where_the_platform_does_not_tell() -> None:
    trace = make_trace()
    assert trace.finished is not None
    trace.finished = replace(trace.finished, memory=replace(trace.finished.memory, activations=None, peak=None, budget=None))
    chart = build("memory", [("A", trace), *TRACES[1:]])
    assert "A: activations, peak, budget unavailable" in chart.notes
    assert np.isnan(_series(chart, "activations").y[0])
    kv = _series(chart, "KV cache")
    assert kv.base is not None
    assert kv.base[0] == trace.finished.memory.weights


def test_that_memory_is_known_while_the_run_goes_on() -> None:
    trace = make_trace(finished=False)
    chart = build("memory", [("A", trace)])
    assert _series(chart, "KV cache").y[0] == trace.steps[-1].kv_bytes
    assert "the run is not finished" in chart.notes


def test_that_the_room_of_a_token_is_what_is_held_over_the_tokens_that_are() -> None:
    trace = TRACES[1][1]
    series = build("kv_per_token", [("B", trace)]).series[0]
    assert series.column == 1
    assert series.x[-1] == len(trace.tokens)
    assert series.y[-1] == trace.steps[-1].kv_bytes / trace.steps[-1].kv_tokens
    states = record([*([trace.started] if trace.started else []), replace(trace.steps[0], kv_tokens=0)])
    assert np.isnan(build("kv_per_token", [("A", states)]).series[0].y).all()


def test_that_no_two_charts_draw_the_same_numbers() -> None:
    drawn = [series.y.tobytes() for name in CHARTS for series in build(name, TRACES[:1]).series if series.y.size > 3]
    assert len(set(drawn)) == len(drawn)


def test_that_rounds_show_what_was_drafted_accepted_and_rejected() -> None:
    drafted = tuple(_token(i) for i in range(4))
    trace = record([Round(0, 0, drafted, 1, _token(9)), Round(1, 1, drafted, 4, None)])
    chart = build("speculation_rounds", [("A", trace)])
    assert {s.label: s.y.tolist() for s in chart.series} == {
        "accepted": [1, 4], "the model's own token": [1, 0], "rejected": [3, 0],
    }  # fmt: skip
    assert "5 of 8 drafted tokens accepted (62%) in 2 rounds, mean acceptance length 3.50" in chart.notes[0]
    listing = table(build("speculation_table", [("A", trace)]))
    assert listing.rows[0] == (0, 0, "abcd", 4, "a", 1, "bcd", "j", "sampled", None)
    assert listing.rows[1][-3:] == (None, "the run ended", None)
    assert _series(build("acceptance", [("A", trace)]), "A, so far").y.tolist() == [0.25, 0.625]


def test_that_acceptance_of_the_last_rounds_forgets_older_ones() -> None:
    drafted = (_token(0), _token(1))
    trace = record(Round(i, i, drafted, 2 if i < 4 else 0, None) for i in range(12))
    assert _series(build("acceptance", [("A", trace)]), "A, last 8").y[-1] == 0.0


def test_that_routing_is_shown_by_token_and_expert() -> None:
    experts, weights = np.array([[0, 2], [1, 2]], np.int16), np.array([[0.75, 0.25], [0.5, 0.5]], np.float16)
    trace = _text(4)
    trace.add(RoutingCaptured(-1, 5, 0, experts, weights, 4))
    values = _map(build("expert_routing", [("A", trace)])).values
    assert values.tolist() == [[0.75, 0.0], [0.0, 0.5], [0.25, 0.5], [0.0, 0.0]]
    load = _map(build("expert_load", [("A", trace)]))
    assert load.values.tolist() == [[25.0, 25.0, 50.0, 0.0]]
    assert "layer 5" in build("expert_load", [("A", trace)]).notes[0]
    assert "choose one of 5" in build("expert_routing", [("A", trace)], layer=1).empty


def test_that_agreement_stops_at_the_first_token_that_differs() -> None:
    row = table(build("quality", TRACES)).rows[0]
    assert row[:4] == ("B", 30, 56, 31)
    kl = build("quality_kl", TRACES).series[0]
    assert kl.x.tolist() == list(range(1, 32))
    assert "the first 30 tokens equal A's, token 31 differs" in build("quality_kl", TRACES).notes[0]
    assert (kl.y >= 0).all()
    assert table(build("quality", [TRACES[0], ("B", TRACES[0][1])])).rows[0][3:8] == (None, "", "", 0.0, 0.0)


def test_that_other_prompts_are_not_compared() -> None:
    other = record([event for event in make_events() if not isinstance(event, Step)])
    assert other.started is not None
    other.started = replace(other.started, prompt_tokens=other.started.prompt_tokens[1:])
    chart = build("quality", [TRACES[0], ("B", other)])
    assert not has_data(chart)
    assert chart.notes[0] == "B had another prompt or vocabulary and cannot be compared"


def test_that_the_probability_of_a_token_outside_the_alternatives_is_unavailable() -> None:
    chart = build("quality_probability", TRACES)
    ours, theirs = _series(chart, "A"), _series(chart, "B")
    assert ours.y.size == theirs.y.size == 31
    assert ours.y[0] == TRACES[0][1].tokens[0].probability
    assert np.isfinite(theirs.y[:30]).all()


def test_that_several_series_of_a_name_say_their_configuration_in_the_table() -> None:
    twin = table(build("latency_phases", TRACES))
    assert twin.columns == ("series", "configuration", "x", "time (ms)")
    assert {row[1] for row in twin.rows} == {"A", "B"}


def _token(index: int) -> Token:
    return Token(index, index, chr(97 + index % 26), "sampled")


def _text(length: int) -> Trace:
    """A trace of `length` tokens."""
    return record([Step(-1, tuple(map(_token, range(length))), 1.0, {}, 0, 0)])
