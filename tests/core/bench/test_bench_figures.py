"""Medians, ratios, utilisations, and what is said of them."""

from __future__ import annotations

import dataclasses
import json

import pytest

from core.bench import figures
from core.bench.figures import DECODE, FIRST, LOAD, MBU, MFU, OWN, PEAK, PREFILL, ROWS, agreement, prefill_operations
from core.bench.report import text_of, to_dict
from core.bench.run import Measured, Record
from tests.core.bench.bench_records import INFO, OURS, THEIRS, decode, measured, record


@pytest.fixture
def compared() -> Record:
    return record(measured(OURS, decode(1.0, 2.0, 0.5)), measured(THEIRS, decode(4.0, 4.0, None)))


def test_that_the_median_of_the_rounds_stands_for_them_with_their_ends(compared: Record) -> None:
    row = figures.row(figures.rows_of(compared), DECODE, 128)
    assert row.values == ([4.0, 2.0, 8.0], [1.0, 1.0, None])
    mine, theirs = row.spreads
    assert mine is not None
    assert theirs is not None
    assert (mine.median, mine.low, mine.high) == (4, 2, 8)
    assert theirs.median == 1


def test_that_ratios_are_of_medians_and_of_the_same_round(compared: Record) -> None:
    ratio = figures.row(figures.rows_of(compared), DECODE, 128).ratio(0, 1)
    assert ratio is not None
    assert ratio.rounds is not None
    assert (ratio.of_medians, ratio.rounds.values) == (4, (4, 2))


def test_that_a_disturbed_round_does_not_count_where_another_was_quiet(compared: Record) -> None:
    disturb(compared.measured[0], rounds=1)
    disturb(compared.measured[1], rounds=2)
    row = figures.row(figures.rows_of(compared), DECODE, 128)
    assert row.values == ([None, 2.0, 8.0], [1.0, 1.0, None])
    assert row.disturbed == {1}
    assert f"~{1:.2f}" in text_of(compared)


def disturb(measured: Measured, rounds: int) -> None:
    for answers in measured.rounds.values():
        for answer in filter(None, answers[:rounds]):
            answer["elsewhere"] = 0.5


def test_that_single_figures_are_read_from_their_answers(compared: Record) -> None:
    rows = figures.rows_of(compared)
    found = {metric: figures.row(rows, metric).values[0] for metric in (LOAD, FIRST, ROWS, PEAK, OWN)}
    assert found == {LOAD: [1.0], FIRST: [2.0], ROWS: [1.5], PEAK: [3 * 2**20], OWN: [2 * 2**20]}
    assert figures.row(rows, PREFILL, 128).values[0] == [256, None, None]


def test_that_utilisations_count_what_is_read_and_computed_against_the_best_peak(compared: Record) -> None:
    rows = figures.rows_of(compared)
    read = 1000 + 10 * (128 + 5)  # half of the ten tokens are there on average
    assert figures.row(rows, MBU, 128).values[0] == pytest.approx([read * speed / 2e6 for speed in (4, 2, 8)])
    inside, embedding = 1000 - 80, 80
    operations = 2 * inside * 128 + 2 * 2 * 2 * 4 * 128 * 129 + 2 * embedding
    assert prefill_operations(INFO, 128) == operations
    assert figures.row(rows, MFU, 128).values[0][0] == pytest.approx(operations / 0.5 / 4e6)


def test_that_the_utilisation_of_a_mixture_is_unavailable() -> None:
    assert prefill_operations(dataclasses.replace(INFO, experts=8), 128) is None


def test_that_engines_are_compared_by_the_tokens_they_write() -> None:
    columns = (
        measured(OURS, decode(1.0)),
        measured(THEIRS, [*decode(None), *decode(1.0, ids=(1, 2, 9))]),
        measured(THEIRS, decode(None)),
    )
    assert agreement(record(*columns)) == ((4, 4), (2, 3), None)


def test_that_the_table_is_aligned_and_names_units_medians_and_ratios(compared: Record) -> None:
    lines = text_of(compared).splitlines()
    heads = next(line for line in lines if "llama.cpp" in line)
    decoded = next(line for line in lines if line.startswith("decode at 128, tok/s"))
    assert "4.00 [2.00–8.00]" in decoded
    assert decoded.index("1.00") == heads.index("llama.cpp")
    ratio = next(line for line in lines if line.startswith("decode at 128 "))
    assert ratio.split() == ["decode", "at", "128", "4.00", "[2.00–4.00]", "more"]
    assert "llama.cpp: llama.cpp 1.0" in lines
    assert "llama.cpp: of 4 greedy tokens the first 4 are those of native" in lines


def test_that_an_engine_that_could_not_be_measured_is_named_with_the_reason() -> None:
    absent = dataclasses.replace(measured(THEIRS, []), rounds={}, memory={}, loaded={}, error="llama_cpp cannot be imported")
    text = text_of(record(measured(OURS, decode(1.0)), absent))
    assert "llama.cpp: not measured: llama_cpp cannot be imported" in text
    assert "native over" not in text


def test_that_a_busy_machine_is_said_to_be_busy(compared: Record) -> None:
    assert "~" not in text_of(compared)
    disturb(compared.measured[0], rounds=3)
    assert "~: other programs took more than a tenth of the processors in every round" in text_of(compared)


def test_that_the_json_holds_every_value_and_every_ratio_of_ours(compared: Record) -> None:
    data = json.loads(json.dumps(to_dict(compared), allow_nan=False))
    (metric,) = [each for each in data["metrics"] if each["name"] == "decode_tokens_per_s"]
    assert metric["columns"]["native"]["rounds"] == [4, 2, 8]
    assert [(each["of"], each["to"], each["of_medians"]) for each in metric["ratios"]] == [("native", "llama.cpp", 4)]
    assert {"environment", "model", "settings", "peaks", "engines", "interval"} < set(data)
    assert data["peaks"]["best"] == {"read": 2e6, "float32": 1e6, "bfloat16": 4e6}
