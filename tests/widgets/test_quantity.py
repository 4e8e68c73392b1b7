"""Numbers as they are shown: units, decimals and round ticks."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from widgets.quantity import relabelled, scale_for, spoken, tick_labels, ticks, unit_of


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12.345, "ms", "12.3 ms"), (0.05, "ms", "50 µs"), (25_000.0, "ms", "25 s"), (96_640_544, "B", "92.2 MiB"),
        (512, "B", "512 B"), (8 * 2**30, "B", "8 GiB"), (0.5, "%", "0.500 %"), (83.1, "tok/s", "83.1 tok/s"),
        (None, "ms", "unavailable"), (math.nan, "", "unavailable"), (0.0, "ms", "0 ms"), (1234567.0, "", "1\u202f234\u202f567"),
        (0.00012, "", "1.20e-04"),
    ],
)  # fmt: skip
def test_that_a_number_reads_with_its_unit(value, unit, text):
    assert spoken(value, unit) == text


@pytest.mark.parametrize(
    ("label", "unit"), [("time (ms)", "ms"), ("memory (B)", "B"), ("ratio to A", ""), ("heads (all)", ""), ("ms", "")]
)
def test_that_the_unit_is_found_in_an_axis_label(label, unit):
    assert unit_of(label) == unit


def test_that_an_axis_label_follows_its_scale():
    assert relabelled("memory (B)", scale_for(2e8, "B")) == "memory (MiB)"
    assert relabelled("tokens (tokens)", scale_for(2e8, "tokens")) == "tokens"
    assert relabelled("head", scale_for(5, "")) == "head"


def test_that_tick_labels_share_their_decimals():
    assert tick_labels(ticks(0, 1, 5)) == ("0.0", "0.2", "0.4", "0.6", "0.8", "1.0")
    assert tick_labels((0.0, 500.0, 1000.0)) == ("0", "500", "1000")


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 12))
def test_that_ticks_lie_inside_and_are_few(low, span, most):
    found = ticks(low, low + span, most)
    slack = 1e-6 * span + 1e-9 * abs(low)
    assert len(found) <= most + 1
    assert all(low - slack <= tick <= low + span + slack for tick in found)
