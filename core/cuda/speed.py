"""What a GPU can do, measured on the spot."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import torch

from core.cuda.marks import event

_BYTES = 4 * 2**30  # several times any cache
_SIDE = 8192  # rows and columns of the matrices of a measured product
_TIMES = 10


@cache
def bandwidth(device: torch.device) -> float | None:
    """Bytes per second that the GPU reads and writes, the better of summing a buffer and copying one.

    None when there is not enough free memory to measure it.
    """
    if torch.cuda.mem_get_info(device)[0] < 3 * _BYTES:
        return None
    one, other = (torch.ones(_BYTES // 4, device=device) for _ in range(2))
    return max(_BYTES / seconds(lambda: one.sum()), 2 * _BYTES / seconds(lambda: other.copy_(one)))


@cache
def product_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of torch's product of two square random matrices; 2 n³ a product."""
    one, other = (torch.randn(_SIDE, _SIDE, device=device, dtype=dtype) for _ in range(2))
    return 2 * _SIDE**3 / seconds(lambda: one @ other)


def seconds(work: Callable[[], object]) -> float:
    """Of the fastest of several calls, by events on the GPU's timeline."""
    work()
    marks = [event() for _ in range(_TIMES + 1)]
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    torch.cuda.synchronize()
    return min(before.elapsed_time(after) for before, after in pairwise(marks)) / 1000
