"""Maps of long texts: kept in blocks, whose cells hold the largest weight of what they cover."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from core.charts import attention_rows
from core.charts.attention_map import chart_of
from core.charts.attention_rows import GrowingMap
from core.config import RunConfig
from core.events import AttentionCaptured
from core.trace import Trace
from tests.traces import make_trace

LENGTH, PROMPT, WINDOW = 150, 37, 6


def _trace(first: int = 0) -> Trace:
    """A prompt, then one query a pass that sees its last keys only, laid out as a ring would give them."""
    draw = np.random.default_rng(0)
    trace = make_trace(RunConfig().set(["attention.name=window", f"attention.window={WINDOW}"]))
    trace.attention = {0: [_pass(draw, first, PROMPT, np.arange(PROMPT))]}
    for query in range(PROMPT, LENGTH):
        keys = np.roll(np.arange(query + 1 - WINDOW, query + 1), query)
        trace.attention[0].append(_pass(draw, query, query + 1, keys))
    return trace


def _pass(draw: np.random.Generator, first: int, end: int, keys: np.ndarray) -> AttentionCaptured:
    weights = draw.random((3, end - first, len(keys))).astype(np.float16)
    return AttentionCaptured(first, 0, first, weights, keys.astype(np.int32))


def _largest(cells: np.ndarray, first: int, block: int) -> np.ndarray:
    """Block maxima, one block at a time."""
    rows = [first, *range((first // block + 1) * block, LENGTH, block), LENGTH]
    columns = [*range(0, LENGTH, block), LENGTH]
    return np.array(
        [[_of(cells[a - first : b - first, c:d]) for c, d in pairwise(columns)] for a, b in pairwise(rows)], cells.dtype
    )


def _of(cells: np.ndarray) -> float:
    known = cells[np.isfinite(cells)]
    return float(known.max()) if known.size else np.nan


@pytest.mark.parametrize("first", [0, 5])
@pytest.mark.parametrize("stride", [1, 7, 1000])
def test_that_a_long_map_holds_the_largest_weight_of_each_block(
    monkeypatch: pytest.MonkeyPatch, first: int, stride: int
) -> None:
    whole, live = _trace(first), Trace()
    exact = GrowingMap(whole, 0, 1, None).update(LENGTH)
    monkeypatch.setattr(attention_rows, "MOST_CELLS", 2000)
    growing = GrowingMap(live, 0, 1, None)
    for start in range(0, len(whole.attention[0]), stride):
        live.attention.setdefault(0, []).extend(whole.attention[0][start : start + stride])
        found = growing.update(LENGTH)
    assert exact is not None
    assert found is not None
    assert found.block == 4
    assert found.values.size <= 2000
    assert np.array_equal(found.values, _largest(exact.values, first, 4), equal_nan=True)
    gone = _largest(np.where(np.isfinite(exact.values), 1.0 - exact.absent, np.nan), first, 4)
    assert np.array_equal(found.absent, gone == 0)
    assert found.starts()[0].tolist()[:3] == [first, (first // 4 + 1) * 4, (first // 4 + 2) * 4]


def test_that_a_block_is_veiled_where_the_mask_hides_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = _trace()
    tokens = trace.tokens
    trace.tokens = [tokens[0]] * (LENGTH - len(trace.prompt_tokens))
    monkeypatch.setattr(attention_rows, "MOST_CELLS", 2000)
    chart = chart_of([("A", trace)], 0, 1, GrowingMap(trace, 0, 1, None).update())
    assert chart.heatmap is not None
    assert chart.heatmap.overlay is not None
    queries, keys = np.divmod(np.arange(LENGTH**2), LENGTH)
    seen = (queries >= keys) & (queries - keys < WINDOW)
    visible = np.zeros(chart.heatmap.values.shape, bool)
    visible[queries[seen] // 4, keys[seen] // 4] = True
    assert np.array_equal(chart.heatmap.overlay, ~visible & np.isfinite(chart.heatmap.values))
    assert chart.heatmap.row_labels[1].startswith("4 ")
    assert "a cell is the largest weight of 4 × 4 tokens" in chart.notes
