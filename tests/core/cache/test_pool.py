"""Which blocks of a pool a sequence is given: those that stand one after another, as long as there are such."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch

from core.cache import pool
from core.cache.base import Layout
from core.cache.paged import Paged
from core.cache.pool import Pool
from core.cache.table import PagedOptions

LAYOUT = Layout((2,), 4, 400, torch.float32)


def runs(blocks: Sequence[int]) -> int:
    """Pieces that these blocks stand in."""
    return 1 + sum(after != before + 1 for before, after in pairwise(blocks))


def test_that_blocks_follow_the_last_one_where_those_are_free() -> None:
    some = Pool(LAYOUT, 4)
    assert some.take(3) == [0, 1, 2]
    assert some.take(2, 2) == [3, 4]
    some.release([1, 2])
    assert some.take(2, 0) == [1, 2]


def test_that_one_run_is_taken_rather_than_holes() -> None:
    some = Pool(LAYOUT, 4)
    taken = some.take(16)
    some.release([*taken[1:3], *taken[6:12]])
    assert runs(some.take(4, 0)) == 1
    assert some.free == 4


def test_that_the_longest_runs_are_taken_where_none_is_long_enough() -> None:
    some = Pool(LAYOUT, 4)
    taken = some.take(16)
    some.release([*taken[1:3], *taken[6:10], taken[14]])
    assert sorted(some.take(6)) == [1, 2, 6, 7, 8, 9]
    assert some.take(1) == [14]


def test_that_sequences_which_grow_in_turns_keep_out_of_each_others_way() -> None:
    layout = Layout((2,), 4, 400, torch.float32)
    one, other = (Paged(PagedOptions(1), layout) for _ in range(2))
    one.pool.release(one.pool.take(256))
    for _ in range(100):
        for cache in (one, other):
            cache.update(0, *torch.zeros(2, 1, 2, 4))
            cache.advance(1)
    assert (runs(one.table), runs(other.table)) == (1, 1)
    assert not set(one.table) & set(other.table)


def test_that_a_full_pool_gives_up_blocks_that_stand_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_KEPT_BYTES", 0)
    some = Pool(LAYOUT, 4)
    taken = some.take(16)
    for block in taken:
        some.name(block, bytes([block]))
    some.release(taken)
    assert some.idle == 16
    first = some.take(1)
    assert runs([*first, *some.take(5, first[0])]) == 1
    assert len(some.counts) == 16
