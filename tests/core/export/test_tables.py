"""Charts and runs as CSV and JSON."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from core.charts.catalogue import CHARTS, build
from core.charts.chart import table
from core.config import RunConfig, from_dict
from core.errors import BadInput, RunFailed
from core.events import Token
from core.export.numbers import shown
from core.export.tables import TOKEN_COLUMNS, chart_csv, chart_json, dumps, run_json, save_chart_data, save_run, tokens_csv
from core.metrics import METRICS
from core.trace import Trace
from tests.traces import make_trace

SPARSE = RunConfig().set(["ffn.name=moefy", "decoding.name=prompt_lookup", "attention.name=window", "attention.window=8"])
TRACES = [("A", make_trace(SPARSE)), ("B", make_trace(seed=1, diverges_at=30))]


@pytest.mark.parametrize("name", CHARTS)
def test_that_every_chart_is_written_as_csv_with_badge_and_definition(name: str) -> None:
    chart = build(name, TRACES)
    rows = list(csv.reader(io.StringIO(chart_csv(chart))))
    assert rows[0] == [*table(chart).columns, "badge", "definition"]
    assert len(rows) == len(table(chart).rows) + 1
    assert rows[1][-2:] == [chart.badge, chart.definition]
    assert {row[-2] for row in rows[1:]} == {chart.badge}


@pytest.mark.parametrize("name", CHARTS)
def test_that_every_chart_is_written_as_strict_json(name: str) -> None:
    chart = build(name, TRACES)
    data = json.loads(dumps(chart_json(chart)))
    assert (data["chart"], data["badge"], data["definition"]) == (name, chart.badge, chart.definition)
    if chart.heatmap is None:
        assert len(data["rows"]) == len(table(chart).rows)
    else:
        assert len(data["values"]) == len(data["row_labels"])
        assert len(data["values"][0]) == len(data["column_labels"])


def test_that_units_stand_in_the_columns() -> None:
    assert "time (ms)" in table(build("latency_phases", TRACES)).columns
    assert "memory (B)" in table(build("memory", TRACES)).columns
    assert chart_json(build("attention_map", TRACES))["unit"] == "attention weight"


def test_that_tokens_are_written_one_a_row() -> None:
    trace = TRACES[0][1]
    rows = list(csv.DictReader(io.StringIO(tokens_csv(trace))))
    assert tuple(rows[0]) == TOKEN_COLUMNS
    assert [int(row["id"]) for row in rows] == [token.id for token in trace.all_tokens]
    assert "".join(row["text"] for row in rows[len(trace.prompt_tokens) :]) == trace.text
    assert rows[0]["time (ms)"] == ""
    assert rows[-1]["step"] == str(trace.steps[-1].index)


def test_that_a_run_is_written_with_what_the_command_line_promises() -> None:
    trace = TRACES[0][1]
    data = json.loads(dumps(run_json(trace)))
    assert from_dict(data["config"]) == SPARSE
    assert data["prompt_tokens"] == [token.id for token in trace.prompt_tokens]
    assert data["tokens"] == [token.id for token in trace.tokens]
    assert data["finish_reason"] == "eos"
    assert data["metrics"].keys() == METRICS.keys()
    assert data["phases"]["verify"]["count"] == len(trace.rounds)
    assert data["phases"]["verify"]["ms"] == pytest.approx(sum(step.phases.get("verify", 0) for step in trace.steps))
    assert data["badges"]["tpot_ms"] == "derived"
    assert data["environment"]["threads"] == 2
    assert len(data["token_details"]) == len(trace.tokens)
    assert [one["accepted"] for one in data["rounds"]] == [one.accepted for one in trace.rounds]


def test_that_what_is_not_known_is_null_and_unavailable() -> None:
    data = run_json(TRACES[1][1])
    assert data["metrics"]["acceptance_rate"] is None
    assert data["badges"]["acceptance_rate"] == "unavailable"


def test_that_an_unfinished_run_is_written_as_far_as_it_went() -> None:
    data = json.loads(dumps(run_json(make_trace(finished=False))))
    assert data["finish_reason"] is None
    assert data["metrics"] == {}
    assert data["text"].startswith("The sky")


def test_that_a_trace_without_a_run_is_bad_input() -> None:
    with pytest.raises(BadInput, match="holds no run"):
        run_json(Trace())


def test_that_numbers_that_are_not_finite_are_null() -> None:
    trace = make_trace()
    assert trace.finished is not None
    trace.finished = replace(trace.finished, metrics={"mbu": float("nan"), "tpot_ms": float("inf")})
    assert run_json(trace)["metrics"] == {"mbu": None, "tpot_ms": None}


def test_that_files_are_written_by_their_ending(tmp_path: Path) -> None:
    for ending in ("csv", "json"):
        save_chart_data(build("memory", TRACES), tmp_path / f"chart.{ending}")
        save_run(TRACES[0][1], tmp_path / f"run.{ending}")
    assert json.loads((tmp_path / "chart.json").read_text())["chart"] == "memory"
    assert (tmp_path / "run.csv").read_text().startswith("position,id,text")
    with pytest.raises(BadInput, match=r"run\.txt: a run is written as \.csv or \.json, not as \.txt"):
        save_run(TRACES[0][1], tmp_path / "run.txt")
    with pytest.raises(RunFailed, match="there is no folder"):
        save_run(TRACES[0][1], tmp_path / "no" / "run.csv")


def test_that_text_of_any_kind_can_be_written(tmp_path: Path) -> None:
    trace = make_trace()
    trace.tokens.append(Token(99, 1, '\ud800",\n=1', "sampled"))
    save_run(trace, tmp_path / "run.csv")
    save_run(trace, tmp_path / "run.json")
    rows = list(csv.reader(io.StringIO((tmp_path / "run.csv").read_text(encoding="utf-8"), newline="")))
    assert rows[-1][2] == '\\ud800",\n=1'


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "ms", "unavailable"), (float("nan"), "", "unavailable"), (0, "", "0"), (8.117, "ms", "8.12 ms"),
        (12_345, "ms", "12.3 s"), (96_640_544, "B", "92.2 MiB"), (512, "B", "512 B"), (58, "tokens", "58 tokens"),
        (0.4567, "", "0.457"), (0.00001, "", "1.00e-05"), (12_345_678, "", "12\u202f345\u202f678"), (99.96, "ms", "100 ms"),
    ],
)  # fmt: skip
def test_that_numbers_are_shown_with_three_digits_and_their_unit(value: float | None, unit: str, text: str) -> None:
    assert shown(value, unit) == text
