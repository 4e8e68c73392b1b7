"""Charts of sparse attention: candidates and heads of a pattern, mass kept, small maps, what is read and saved."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from core.charts.attention_grid import MOST_TILE, HeadMaps, attention_grid, tile_of
from core.charts.attention_map import attention_map
from core.charts.attention_mask import pattern
from core.charts.catalogue import build
from core.charts.chart import Chart, Heatmap, has_data, table
from core.config import RunConfig
from core.errors import BadInput
from core.events import AttentionCaptured, Step, Token
from core.trace import Trace
from core.trace_file import load, save
from tests.traces import INFO, make_trace

FULL = make_trace(inspect=False)


def _map(chart: Chart) -> Heatmap:
    assert chart.heatmap is not None
    return chart.heatmap


def _trace(settings: list[str], length: int, **changes: object) -> Trace:
    """A trace of `length` prompt tokens."""
    started = FULL.started
    assert started is not None
    prompt = tuple(Token(index, index, chr(97 + index % 26), "prompt") for index in range(length))
    info = replace(INFO, **changes)  # type: ignore[arg-type]
    return Trace(started=replace(started, prompt_tokens=prompt, info=info, config=RunConfig().set(settings)))


def _decoded(trace: Trace, count: int, ms: float) -> Trace:
    for index in range(count):
        token = Token(index, index, "x", "sampled", 2 * ms)
        trace.add(Step(index - 1, (token,), 2 * ms, {"decode.attention": ms} if index else {"prefill.attention": 1.0}, 0, 0))
    return trace


@pytest.mark.parametrize(
    ("settings", "seen"),
    [
        (["attention.name=topk"], [0.5] * 7 + [1]),
        (["attention.name=lsh", "attention.window=3"], [0.5] * 5 + [1] * 3),
        (["attention.name=block_topk", "attention.block=2", "attention.local_blocks=1"], [1, 1, *[0.5] * 4, 1, 1]),
        (["attention.name=dilated", "attention.window=3", "attention.dilation=3"], [0, 1, 0, 0, 1, 0, 0, 1]),
        (["attention.name=strided", "attention.window=2", "attention.stride=4"], [0, 0, 0, 1, 0, 0, 1, 1]),
        (
            ["attention.name=local_global", "attention.window=1", "attention.globals=2", "attention.every=5"],
            [1, 1, 0, 0, 0, 1, 0, 1],
        ),
    ],
    ids=lambda value: value[0] if isinstance(value[0], str) else "",
)
def test_that_certain_keys_and_candidates_are_drawn(settings: list[str], seen: list[float]) -> None:
    chart = pattern(RunConfig().set(settings), 8, info=INFO)
    assert _map(chart).values[-1].tolist() == seen
    assert any("candidate" in note for note in chart.notes) == (0.5 in seen)


def test_that_a_pattern_that_differs_by_head_is_drawn_for_each() -> None:
    config = RunConfig().set(["attention.name=bigbird", "attention.block=2", "attention.window_blocks=1"])
    heads = [_map(pattern(config, 64, info=INFO, head=head)).values for head in range(INFO.query_heads)]
    assert np.array_equal(heads[0], heads[2], equal_nan=True), "query heads that share a KV head"
    assert not np.array_equal(heads[0], heads[3], equal_nan=True)
    whole = _map(pattern(config, 64, info=INFO))
    assert np.allclose(whole.values, np.mean(heads, 0), equal_nan=True)
    with pytest.raises(BadInput, match="head=9: the model has heads 0 to 8"):
        pattern(config, 8, info=INFO, head=9)


def test_that_a_models_own_sliding_layers_are_drawn() -> None:
    info = replace(INFO, sliding_windows=(3, 0, 3, 0, 3, 0))
    sliding, whole = (pattern(RunConfig(), 6, layer=layer, info=info) for layer in (0, 1))
    assert _map(sliding).values[-1].tolist() == [0, 0, 0, 1, 1, 1]
    assert "the model's own window in this layer is 3 tokens" in sliding.notes
    assert _map(whole).values[-1].tolist() == [1] * 6
    chosen = pattern(RunConfig().set(["attention.name=topk"]), 6, layer=0, info=info)
    assert _map(chosen).values[-1].tolist() == [0, 0, 0, 0.5, 0.5, 1]


def test_that_keys_that_were_not_chosen_are_veiled() -> None:
    trace = _trace(["attention.name=topk", "attention.k=2"], 4)
    weights = np.array([[[0.4, 0, 0, 0.6]], [[0, 0.5, 0, 0.5]]], np.float16)
    trace.add(AttentionCaptured(-1, 0, 3, weights, np.arange(4, dtype=np.int32)))
    chart = attention_map([("A", trace)], layer=0, head=0)
    overlay = _map(chart).overlay
    assert overlay is not None
    assert overlay.tolist() == [[False, True, True, False]]
    mean = _map(attention_map([("A", trace)], layer=0)).overlay
    assert mean is not None
    assert mean.tolist() == [[False, False, True, False]]
    assert any("were not chosen" in note for note in chart.notes)


def _with_mass() -> Trace:
    trace = _trace(["attention.name=window"], 5)
    mass = np.array([[1, 0.5, 0.25], [1, 1, 1]], np.float16)
    weights = np.full((2, 3, 4), 0.25, np.float16)
    trace.add(AttentionCaptured(-1, 1, 1, weights, np.arange(4, dtype=np.int32), mass))
    trace.add(AttentionCaptured(0, 1, 5, np.full((2, 1, 6), 0.2, np.float16), np.arange(6, dtype=np.int32), mass[:, :1] / 2))
    trace.add(AttentionCaptured(0, 2, 5, np.full((2, 1, 6), 0.2, np.float16), np.arange(6, dtype=np.int32)))
    return trace


def test_that_mass_is_shown_by_head_and_query() -> None:
    chart = build("attention_mass", [("A", _with_mass())])
    expected = [[1, 0.5, 0.25, np.nan, 0.5], [1, 1, 1, np.nan, 0.5]]
    assert chart.title.endswith("layer 1")
    assert np.array_equal(_map(chart).values, np.array(expected, np.float32), equal_nan=True)
    assert _map(chart).column_labels[:4] == ("1 b", "2 c", "3 d", "4 e")
    assert any("head 0 keeps least" in note for note in chart.notes)
    nothing = build("attention_mass", [("A", _with_mass())], layer=2)
    assert not has_data(nothing)
    assert "Nothing was hidden" in nothing.empty


def test_that_the_summary_tells_the_mass_that_a_run_kept_itself() -> None:
    kept = _map(build("attention_summary", [("A", _with_mass())], measure="kept"))
    assert kept.values.tolist() == [[pytest.approx(2.25 / 4), pytest.approx(3.5 / 4)], [1, 1]]
    assert kept.row_labels == ("1", "2")


def test_that_mass_is_kept_in_a_file_and_old_files_have_none(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    save(_with_mass(), path)
    read = load(path)
    assert np.array_equal(read.attention[1][0].mass, _with_mass().attention[1][0].mass)  # type: ignore[arg-type]
    assert read.attention[2][0].mass is None


@pytest.mark.parametrize("length", [7, 70, 300])
def test_that_small_maps_hold_the_largest_weight_of_each_block(length: int) -> None:
    draw, trace = np.random.default_rng(length), _trace([], 3)
    whole = np.tril(draw.random((2, length, length)).astype(np.float16)) * 0.9
    cuts = (0, length // 2, length - 2, length - 1, length)
    for step, (first, end) in enumerate(pairwise(cuts)):
        for layer in (1, 4):
            weights = (whole[:, first:end, :end] / layer).astype(np.float16)
            trace.add(AttentionCaptured(step - 1, layer, first, weights, np.arange(end, dtype=np.int32)))
            trace.follow(HeadMaps)
    found = trace.follow(HeadMaps)
    assert length <= found.block * MOST_TILE < max(2 * length, 2 * MOST_TILE)
    for query in range(found.cells):
        for key in range(query + 1):
            block = whole[:, query * found.block : (query + 1) * found.block, key * found.block : (key + 1) * found.block]
            assert np.allclose(found.maps[4][:, query, key], (block / 4).astype(np.float16).max((1, 2)), atol=1e-3)
        assert np.isnan(found.maps[4][:, query, query + 1 :]).all()


def test_that_the_grid_has_a_small_map_for_each_head_and_layer() -> None:
    trace = make_trace()
    chart = attention_grid([("A", trace)])
    heatmap = _map(chart)
    assert heatmap.tiles == (tuple(map(str, range(9))), tuple(map(str, range(6))))
    rows, columns = heatmap.values.shape
    assert rows % 9 == columns % 6 == 0
    assert len(heatmap.row_labels) == rows
    assert len(heatmap.column_labels) == columns
    assert tile_of(chart, 0, 0) == (0, 0)
    assert tile_of(chart, rows - 1, columns - 1) == (5, 8)
    assert tile_of(chart, rows // 9, columns // 6 - 1) == (0, 1)
    assert len(table(chart).rows) == rows * columns
    assert not has_data(attention_grid([("A", FULL)]))


def test_that_the_saving_counts_keys_and_compares_times() -> None:
    runs = [
        ("A", _decoded(_trace([], 100), 21, 4.0)),
        ("B", _decoded(_trace(["attention.name=window", "attention.window=11"], 100), 21, 1.0)),
        ("C", _decoded(_trace(["attention.name=topk", "attention.k=10", "attention.layers=0-2"], 100), 21, 5.0)),
        ("D", _decoded(_trace(["attention.name=lsh"], 100), 21, 5.0)),
    ]
    chart = build("attention_saving", runs)
    assert chart.listing is not None
    full, window, topk, lsh = chart.listing.rows
    present = 110.5  # queries at 100 … 119 see 101 … 120 keys
    assert full[2:] == (present, present, present, 4.0, 1.0, 1.0)
    assert window[2:6] == (present, 11, 11, 1.0)
    assert window[6] == pytest.approx(np.mean(11 / np.arange(101, 121)))
    assert window[7] == 0.25
    assert topk[3] == pytest.approx((present + 10) / 2), "half of the layers see everything"
    assert topk[4] == pytest.approx((present + (present + 10) / 2) / 2)
    assert lsh[2:5] == (present, None, None)
    assert any("C: topk was not faster than full attention here" in note for note in chart.notes)
    assert any("topk computes every score" in note for note in chart.notes)


def test_that_blocks_read_count_their_summaries() -> None:
    settings = ["attention.name=block_topk", "attention.block=10", "attention.blocks=2", "attention.local_blocks=1"]
    chart = build("attention_saving", [("A", _decoded(_trace(settings, 100), 2, 1.0))])
    assert chart.listing is not None
    assert chart.listing.rows[0][2:5] == (101, 10 + 1 + 20, 31 + 10 * 2 * 2 / 2)
    assert any("run another configuration" in note for note in chart.notes)
