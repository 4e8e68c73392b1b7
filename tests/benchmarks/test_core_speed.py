"""Speed and memory of the core against llama.cpp and transformers, all measured in one run. `make bench` runs this.

Other programs slow down engines whose threads wait by spinning more than ours: a figure that they disturbed in every round is
no proof of anything, and its test is skipped.
"""

from __future__ import annotations

import pytest

from core.bench import figures
from core.bench.columns import columns_of
from core.bench.figures import DECODE, LOAD, MBU, OWN, PEAK, PREFILL, ROWS, Metric, Row
from core.bench.plan import Settings
from core.bench.report import text_of
from core.bench.run import Record, run
from core.environment import cores

CONTEXTS = (128, 1024, 4096)
FORMATS = ("native", "cast:bfloat16", "rtn:8")
CACHE = "quantized:8"
CACHED = f"native, {CACHE}"


class Figures:
    """What was measured, by metric and engine."""

    def __init__(self, record: Record) -> None:
        self._rows, self._measured = figures.rows_of(record), record.measured

    def columns(self, engine: str) -> list[int]:
        """Those of an engine; skips the test where it was not measured."""
        columns = [index for index, each in enumerate(self._measured) if each.column.engine == engine]
        for index in columns:
            if error := self._measured[index].error:
                pytest.skip(f"{engine} was not measured: {error}")
        return columns

    def row(self, metric: Metric, context: int = 0) -> Row:
        return figures.row(self._rows, metric, context)

    def median(self, metric: Metric, context: int = 0, label: str = "native") -> float:
        row, column = self.row(metric, context), (*FORMATS, CACHED).index(label)
        found = row.spreads[column]
        assert found is not None
        if column in row.disturbed:
            pytest.skip(f"other programs disturbed every round of {metric.label} with {label}")
        return found.median

    def to(self, engine: str, metric: Metric, context: int = 0) -> float:
        """The least ratio of the medians of ours, native, and any column of the engine."""
        row, columns = self.row(metric, context), self.columns(engine)
        if row.disturbed & {0, *columns}:
            pytest.skip(f"other programs disturbed every round of {metric.label} of one of the engines")
        return min(ratio.of_medians for ratio in (row.ratio(0, column) for column in columns) if ratio is not None)


@pytest.fixture(scope="module")
def measured() -> Figures:
    columns = columns_of(("local", "transformers", "llama.cpp"), FORMATS, [CACHE])
    record = run(Settings("default", columns, CONTEXTS, tokens=64, rounds=5, threads=cores()), lambda _: None)
    print(f"\n{text_of(record)}")
    return Figures(record)


@pytest.mark.parametrize("context", CONTEXTS)
def test_that_decoding_is_faster_than_in_llama_cpp(measured: Figures, context: int) -> None:
    assert measured.to("llama.cpp", DECODE, context) >= 1.3


def test_that_decoding_is_many_times_as_fast_as_in_transformers(measured: Figures) -> None:
    assert measured.to("transformers", DECODE, 128) >= 7


def test_that_prefill_is_faster_than_in_llama_cpp(measured: Figures) -> None:
    assert measured.to("llama.cpp", PREFILL, 1024) >= 2


def test_that_decoding_uses_the_bandwidth(measured: Figures) -> None:
    assert measured.median(MBU, 128) >= 0.45


@pytest.mark.parametrize("weights", FORMATS)
def test_that_drafted_tokens_are_verified_at_little_cost(measured: Figures, weights: str) -> None:
    assert measured.median(ROWS, label=weights) <= 1.6


def test_that_decoding_stays_fast_in_a_long_context(measured: Figures) -> None:
    assert measured.median(DECODE, 4096) >= 0.6 * measured.median(DECODE, 128)


def test_that_decoding_stays_fast_in_a_long_context_of_8_bits(measured: Figures) -> None:
    assert measured.median(DECODE, 4096, CACHED) >= 0.6 * measured.median(DECODE, 128, CACHED)


def test_that_prefill_stays_fast_in_a_long_context(measured: Figures) -> None:
    assert measured.median(PREFILL, 4096) >= 0.7 * measured.median(PREFILL, 1024)


def test_that_loading_again_takes_less_than_a_second(measured: Figures) -> None:
    assert measured.median(LOAD) < 1


def test_that_memory_is_near_that_of_llama_cpp(measured: Figures) -> None:
    theirs = [measured.row(PEAK).values[column][0] for column in measured.columns("llama.cpp")]
    own = measured.row(OWN).values[0][0]
    if own is None:
        pytest.skip("the peak of memory is known on Linux alone")
    assert own <= 1.5 * min(value for value in theirs if value is not None)
