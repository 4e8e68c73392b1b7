"""How long work on a device takes, and what a GPU can do at most."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import torch

from core.cuda.marks import mark_on

_BYTES = 4 * 2**30  # several times any cache
_SIDE = 8192  # rows and columns of the matrices of a measured product
_TIMES = 10


def timings(work: Callable[[], object], device: torch.device, times: int) -> list[float]:
    """Seconds of each of several calls on the device's own timeline, one behind the other; a first one is not counted."""
    work()
    make = mark_on(device)
    marks = [make() for _ in range(times + 1)]
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return [before.elapsed_time(after) / 1000 for before, after in pairwise(marks)]


@cache
def bandwidth(device: torch.device) -> float | None:
    """Bytes per second that a GPU reads and writes, the better of summing a buffer and copying one.

    None when there is not enough free memory to measure it.
    """
    if torch.cuda.mem_get_info(device)[0] < 3 * _BYTES:
        return None
    one, other = (torch.ones(_BYTES // 4, device=device) for _ in range(2))
    summed, copied = timings(one.sum, device, _TIMES), timings(lambda: other.copy_(one), device, _TIMES)
    return max(_BYTES / min(summed), 2 * _BYTES / min(copied))


@cache
def product_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of torch's product of two square random matrices; 2 n³ a product."""
    one, other = (torch.randn(_SIDE, _SIDE, device=device, dtype=dtype) for _ in range(2))
    return 2 * _SIDE**3 / min(timings(lambda: one @ other, device, _TIMES))
