"""Charts of what a cache holds, against what was recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.charts.cache_held import held_after, passes
from core.charts.cache_map import cache_evictions, cache_map, cache_slots
from core.charts.chart import Heatmap, table
from core.charts.memory import kv_context
from core.events import CacheChanged, Step, Token
from core.trace import Trace, record
from core.trace_file import load, save
from tests.traces import make_trace

PROMPT = 4


def changed(step: int, tokens: int, positions: list[list[int]], layers: list[int], **more: object) -> CacheChanged:
    fields: dict[str, object] = {
        "bits": np.full(len(positions[0]), 16, np.float32), "blocks": np.empty(0, np.int32), "block_size": 0, "offloaded": 0,
        "reason": "a newer token took its slot",
    }  # fmt: skip
    return CacheChanged(step, tokens, np.array(positions, np.int32), np.array(layers, np.int32), **(fields | more))  # type: ignore[arg-type]


def trace(*changes: CacheChanged, steps: int = 4) -> Trace:
    """A prompt of four tokens and a token a pass."""
    made = make_trace(inspect=False, finished=False)
    assert made.started is not None
    prompt = tuple(Token(i, i, f"p{i}", "prompt") for i in range(PROMPT))
    made.started = type(made.started)(**{**vars(made.started), "prompt_tokens": prompt})
    given = [
        Step(i - 1, (Token(PROMPT + i, 9, f"t{i}", "sampled"),), 1.0, {}, PROMPT + i, 100 * (PROMPT + i)) for i in range(steps)
    ]
    return record([made.started, *given, *changes])


def values(heatmap: Heatmap | None) -> list[list[float]]:
    assert heatmap is not None
    return np.nan_to_num(heatmap.values, nan=-1).tolist()


def test_that_tokens_that_were_appended_need_no_event_of_their_own() -> None:
    grown = held_after(trace(changed(-1, 4, [[0, 1, 2, 3]], [-1])), 2)
    assert grown is not None
    assert grown.positions.tolist() == [[0, 1, 2, 3, 4, 5, 6]]
    assert [change.tokens for _, change in passes(trace(changed(-1, 4, [[0, 1, 2, 3]], [-1])))] == [4, 5, 6, 7]


def test_that_the_map_has_the_bits_of_every_token_after_every_pass() -> None:
    coded = changed(1, 6, [[0, 1, 2, 3, 4, 5]], [-1], bits=np.array([4, 4, 16, 16, 16, 16], np.float32))
    chart = cache_map([("A", trace(changed(-1, 4, [[0, 1, 2, 3]], [-1]), coded))])
    assert values(chart.heatmap) == [
        [16, 16, 16, 16, -1, -1, -1],
        [16, 16, 16, 16, 16, -1, -1],
        [4, 4, 16, 16, 16, 16, -1],
        [4, 4, 16, 16, 16, 16, 16],
    ]


def test_that_heads_that_differ_are_averaged_or_chosen_by_layer() -> None:
    heads = changed(-1, 4, [[0, 3], [1, 3], [2, 3], [2, 3]], [0, 0, 1, 1])
    shown = [("A", trace(heads, steps=1))]
    assert values(cache_map(shown).heatmap) == [[4, 4, 8, 16]]
    assert values(cache_map(shown, layer=0).heatmap) == [[8, 8, 0, 16]]
    slots = cache_slots(shown, layer=0)
    assert values(slots.heatmap) == [[0, 3], [1, 3]]
    assert slots.heatmap is not None
    assert slots.heatmap.row_labels == ("layer 0 head 0", "layer 0 head 1")


def test_that_a_cache_that_keeps_nothing_says_so() -> None:
    nothing = [("A", trace(changed(-1, 0, [[]], [-1])))]
    for chart in (cache_map(nothing), cache_slots(nothing)):
        assert chart.heatmap is None
        assert "keeps no token" in chart.empty


def test_that_blocks_are_rows_of_the_slots() -> None:
    paged = changed(-1, 4, [[0, 1, 2, 3]], [-1], blocks=np.array([7, 2], np.int32), block_size=3)
    chart = cache_slots([("A", trace(paged, steps=1))])
    assert chart.heatmap is not None
    assert chart.heatmap.row_labels == ("block 7", "block 2")
    assert values(chart.heatmap) == [[0, 1, 2], [3, -1, -1]]


def test_that_slots_in_a_line_are_rows_named_by_their_first_slot() -> None:
    line = changed(-1, 70, [list(range(70))], [-1])
    chart = cache_slots([("A", trace(line, steps=1))])
    assert chart.heatmap is not None
    assert chart.heatmap.row_labels == ("from 0", "from 64")


def test_that_dropped_tokens_are_listed_with_pass_share_and_reason() -> None:
    first, second = changed(-1, 4, [[0, 1, 2, 3]] * 2, [0, 0]), changed(1, 6, [[0, 2, 4, 5], [0, 1, 4, 5]], [0, 0])
    chart = cache_evictions([("A", trace(first, second, steps=3))])
    why = "a newer token took its slot"
    assert table(chart).rows == (
        (1, "p1", "pass 2", 50.0, why), (2, "p2", "pass 2", 50.0, why), (3, "p3", "pass 2", 0.0, why)
    )  # fmt: skip


def test_that_memory_stands_against_the_tokens_read() -> None:
    chart = kv_context([("A", trace(steps=3))])
    assert chart.series[0].x.tolist() == [4, 5, 6]
    assert chart.series[0].y.tolist() == [400, 500, 600]


def test_that_pictures_of_the_cache_are_kept_in_a_file(tmp_path: Path) -> None:
    whole = trace(changed(-1, 4, [[0, 1, 2, 3]], [-1]), changed(0, 5, [[4, 1, 2, 3]], [-1]))
    save(whole, tmp_path / "one.trace")
    again = load(tmp_path / "one.trace")
    assert [change.positions.tolist() for change in again.cache] == [[[0, 1, 2, 3]], [[4, 1, 2, 3]]]
