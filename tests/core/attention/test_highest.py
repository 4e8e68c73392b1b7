"""The compiled choice of the highest scores, and sums of values at chosen slots, against torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from core.attention.highest import highest
from core.attention.summing import summed

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = 20
KINDS: dict[str, Callable[[int], torch.Tensor]] = {
    "random": lambda count: torch.randn(ROWS, count) * 5,
    "ties": lambda count: torch.randint(-3, 3, (ROWS, count)).float(),
    "equal": lambda count: torch.zeros(ROWS, count),
    "hidden": lambda count: torch.randn(ROWS, count).masked_fill(torch.rand(ROWS, count) < 0.5, -torch.inf),
    "certain": lambda count: torch.randn(ROWS, count).masked_fill(torch.rand(ROWS, count) < 0.01, torch.inf),
    "tiny": lambda count: -torch.rand(ROWS, count) * 1e-40,
}


@pytest.mark.parametrize("count", [1, 5, 16, 17, 100, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_that_the_highest_scores_are_those_of_a_stable_sort(kind: str, count: int) -> None:
    scores = KINDS[kind](count)
    for best in (1, 2, 5, 64, 900, 2000):
        slots, found = highest(scores, best)
        assert torch.equal(slots, torch.sort(scores, descending=True, stable=True).indices[:, :best].sort(-1).values)
        assert torch.equal(found, scores.gather(-1, slots))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [6, 8, 64, 96, 256])
def test_that_sums_at_slots_are_those_of_gathered_values(size: int, dtype: torch.dtype) -> None:
    weights, slots = torch.rand(2, 7, 9), torch.randint(0, 50, (2, 7, 9))
    values = torch.randn(2, 60, size).to(dtype)[:, :50]
    expected = (weights[..., None] * values.float()[torch.arange(2)[:, None, None], slots]).sum(2)
    assert torch.allclose(summed(weights, slots, values), expected, atol=1e-5)
