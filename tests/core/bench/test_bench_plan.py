"""Turns, their pace, and what may be asked for."""

from __future__ import annotations

import pytest

from core.bench.columns import ENGINES, columns_of
from core.bench.plan import Measure, Pace, Turn, measures, turns
from core.errors import BadInput
from tests.core.bench.bench_records import OURS, THEIRS, settings


def test_that_engines_take_turns_measure_by_measure() -> None:
    order = list(turns(2, [Measure("prefill", 128), Measure("decode", 128)], [0, 1]))
    assert [(turn.round, turn.measure.name, turn.column) for turn in order] == [
        (round_, name, column) for round_ in (0, 1) for name in ("prefill", "decode") for column in (0, 1)
    ]


def test_that_a_decode_follows_the_prefill_that_fills_its_cache() -> None:
    names = [(measure.name, measure.context) for measure in measures((128, 1024))]
    assert names == [("load", 0), ("rows", 0), ("prefill", 128), ("decode", 128), ("prefill", 1024), ("decode", 1024)]


def test_that_what_takes_long_is_measured_three_times_at_most() -> None:
    pace, slow, quick = Pace(), Turn(0, Measure("prefill", 4096), 0), Turn(0, Measure("prefill", 4096), 1)
    for _ in range(3):
        assert not pace.enough(slow)
        pace.took(slow, 10)
        pace.took(quick, 1)
    assert pace.enough(slow)
    assert not pace.enough(quick)


def test_that_the_time_left_is_known_once_every_turn_was_taken() -> None:
    pace = Pace()
    first, second = turns(1, [Measure("rows")], [0, 1])
    assert pace.left([first, second]) is None
    pace.took(first, 2)
    assert pace.left([first, second]) is None
    pace.took(second, 3)
    assert pace.left([second, first]) == 5
    for _ in range(3):
        pace.took(first, 20)
    assert pace.left([second, first]) == 3


def test_that_formats_of_weights_are_read_with_their_first_option() -> None:
    columns = columns_of(["local", "transformers"], ["native", "cast:bfloat16", "rtn:8"])
    assert [column.label for column in columns] == ["native", "cast:bfloat16", "rtn:8", "transformers"]
    assert columns[1].settings == ("weights.name=cast", "weights.dtype=bfloat16")
    assert columns[2].settings == ("weights.name=rtn", "weights.bits=8")


def test_that_caches_stand_beside_the_first_format_of_weights() -> None:
    columns = columns_of(["local", "transformers"], ["cast:bfloat16", "rtn:8"], ["quantized:8", "rolling"])
    labels = ["cast:bfloat16", "rtn:8", "cast:bfloat16, quantized:8", "cast:bfloat16, rolling", "transformers"]
    assert [column.label for column in columns] == labels
    assert columns[2].settings == ("weights.name=cast", "weights.dtype=bfloat16", "cache.name=quantized", "cache.bits=8")


@pytest.mark.parametrize(
    ("weights", "cache", "complaint"),
    [
        (["native"], "infinite", "--caches: there is no technique 'infinite'; the techniques are off, dynamic"),
        (["native"], "dynamic:4", "--caches dynamic:4: dynamic has nothing to set"),
        (["native"], "quantized:5", "5"),
        ([], "quantized:8", "--caches: name at least one of --weights"),
    ],
)
def test_that_a_cache_that_cannot_be_measured_is_refused(weights: list[str], cache: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        columns_of(["local"], weights, [cache])


def test_that_llama_cpp_is_measured_with_and_without_flash_attention() -> None:
    assert [column.engine for column in columns_of(["llama.cpp"], [])] == ["llama.cpp", "llama.cpp"]


@pytest.mark.parametrize(
    ("engines", "weights", "complaint"),
    [
        (["vllm"], ["native"], "no engine 'vllm'; the engines are local, transformers, llama.cpp"),
        (["local"], ["awq"], "no technique 'awq'"),
        (["local"], ["native:4"], "native has nothing to set"),
        (["local"], ["rtn:99"], "99"),
        (["local"], ["cast:float8"], "float8"),
        (["local"], ["native", "native"], "once"),
        (["local"], [], "at least one"),
        ([], ["native"], "at least one"),
    ],
)
def test_that_what_cannot_be_measured_is_refused(engines: list[str], weights: list[str], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        columns_of(engines, weights)


def test_that_contexts_must_fit_the_model() -> None:
    asked = settings(OURS, THEIRS, contexts=(128, 4096))
    asked.check(4106)
    with pytest.raises(BadInput, match="the model takes 4105 in all"):
        asked.check(4105)


def test_that_memory_is_measured_in_what_the_model_takes() -> None:
    assert settings(OURS).memory_context(8192) == 2048
    assert settings(OURS).memory_context(1000) == 990


def test_that_every_engine_is_an_adapter() -> None:
    assert all(place.startswith("core.bench.") and ":" in place for place in ENGINES.values())
