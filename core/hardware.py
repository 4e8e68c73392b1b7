"""What this machine can do: memory left for a run, and the measured speeds of reading memory and of matrix products."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from time import perf_counter

import numpy as np
import psutil

from core.environment import cores, processor
from core.errors import RunFailed
from core.files import replacing
from core.folders import cache_folder

_CGROUP = Path("/sys/fs/cgroup")
_BUFFER = 512 * 2**20  # bytes
_MEASURE_FOR = 0.3  # seconds
_ENOUGH = 5  # measurements
_SIDE = 2048  # rows and columns of the matrices of a measured product


def memory_available() -> int:
    """Bytes this process may still take: what the system has free, or less where a control group limits it."""
    free = int(psutil.virtual_memory().available)
    limit, used = (_cgroup_bytes(name) for name in ("memory.max", "memory.current"))
    return free if limit is None or used is None else max(0, min(free, limit - used))


def memory_budget() -> int:
    """Bytes this process may still take and those it has."""
    return memory_available() + int(psutil.Process().memory_info().rss)


def _cgroup_bytes(name: str) -> int | None:
    path = _CGROUP / name
    text = path.read_text(encoding="ascii").strip() if path.is_file() else "max"
    return None if text == "max" else int(text)


@cache
def measured_bandwidth() -> float | None:
    """Bytes per second that all cores together read from memory.

    Measured in the first few processes on a machine and kept in the cache folder; the best counts, since whatever else runs
    can only slow a measurement down. None when there is not enough free memory to measure it.
    """
    machine = f"{platform.node()} · {processor()} · {cores()} cores"
    path = cache_folder() / "bandwidth.json"
    known = _known(path)
    speeds = known.setdefault(machine, [])
    if len(speeds) < _ENOUGH and memory_available() > 4 * _BUFFER:
        speeds.append(read_speed(cores()))
        _keep(path, known)
    return max(speeds, default=None)


def _known(path: Path) -> dict[str, list[float]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {str(machine): [float(speed) for speed in speeds] for machine, speeds in data.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # not measured yet, or not readable: it is measured again


def _keep(path: Path, known: dict[str, list[float]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, "w") as file:
            json.dump(known, file, indent=1)
    except (OSError, RunFailed):
        return  # a folder that cannot be written costs a new measurement next time, no run


def read_speed(threads: int) -> float:
    """Bytes per second that `threads` threads together read from memory now, best of several reads."""
    parts = np.array_split(np.empty(_BUFFER // 8, dtype=np.int64), threads)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: part.fill(1), parts))
        return _BUFFER / _best(lambda: list(pool.map(np.sum, parts)))


def product_speed(dtype: str, threads: int) -> float:
    """Operations per second of torch's product of two square matrices in `dtype` now, best of several; 2 n³ a product."""
    import torch

    torch.set_num_threads(threads)
    one, other = (torch.ones(_SIDE, _SIDE, dtype=getattr(torch, dtype)) for _ in range(2))
    torch.mm(one, other)  # the first product of a shape also chooses its kernel
    return float(2 * _SIDE**3 / _best(lambda: torch.mm(one, other)))


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of several calls, since whatever else runs can only slow one down."""
    best, end = float("inf"), perf_counter() + _MEASURE_FOR
    while perf_counter() < end:
        began = perf_counter()
        work()
        best = min(best, perf_counter() - began)
    return best
