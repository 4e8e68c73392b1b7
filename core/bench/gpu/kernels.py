"""Products of a step by themselves: ours, other cuts of ours, and what torch has for the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from core.bench.gpu.shapes import Random
from core.cuda.groups import Groups
from core.cuda.products import Products, Tiles
from core.cuda.speed import timings
from core.weights.rounding import on_grid

_GROUP = 128
_BYTES = 2**28  # of different copies of a matrix in turns, so that none is found in the cache
_TILES = [Tiles(), *(replace(Tiles(), **{name: value}) for name, value in (
    ("parts", 2), ("parts", 8), ("block", 32), ("stages", 2), ("stages", 4), ("columns", 64), ("columns", 256),
))]  # fmt: skip


def products(config: dict[str, Any], device: torch.device) -> Iterator[dict[str, Any]]:
    """Seconds, and bytes per second, of every product of a layer with one row and with eight."""
    C, F = config["hidden_size"], config["intermediate_size"]
    for name, shape in {"qkv": (3 * C, C), "out": (C, C), "gate_up": (2 * F, C), "down": (C, F)}.items():
        weight = Random(shape, 0, device).dense()
        groups = Groups.of(*on_grid(weight, 4, _GROUP), 4, _GROUP)
        for rows in (1, 8):
            x = torch.randn(rows, shape[1], device=device).half()
            for label, nbytes, work in _ways(x, weight.half(), groups):
                seconds = min(timings(work, device, 20))
                yield {"matrix": name, "rows": rows, "by": label, "seconds": seconds, "bytes_per_second": nbytes / seconds}


def _ways(x: Tensor, weight: Tensor, groups: Groups) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Ways to multiply, what they read, and the call; each call takes another copy of the matrix."""
    dense = _turns([weight.clone() for _ in range(_copies(weight.nbytes))])
    packed = _turns([replace(groups, words=groups.words.clone()) for _ in range(_copies(groups.nbytes))])
    yield "torch float16", weight.nbytes, lambda: torch.nn.functional.linear(x, dense())
    for tiles in _TILES:
        ours, cut = Products(tiles), "" if tiles == Tiles() else f" {_difference(tiles)}"
        yield f"float16{cut}", weight.nbytes, lambda ours=ours: ours.product(x, dense(), None)  # type: ignore[misc]
        yield f"W4A16{cut}", groups.nbytes, lambda ours=ours: ours.grouped_product(x, packed(), None)  # type: ignore[misc]
    yield from _tinygemm(x, groups)


def _tinygemm(x: Tensor, groups: Groups) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """torch's own packed product, of bfloat16 and codes that it packs itself."""
    codes = torch.randint(0, 256, (groups.rows, groups.columns // 2), dtype=torch.uint8, device=x.device)
    words = torch.ops.aten._convert_weight_to_int4pack(codes, 8)
    scales = torch.ones(groups.columns // _GROUP, groups.rows, 2, dtype=torch.bfloat16, device=x.device)
    turns, x16 = _turns([words.clone() for _ in range(_copies(words.nbytes))]), x.bfloat16()
    work = lambda: torch.ops.aten._weight_int4pack_mm(x16, turns(), _GROUP, scales)  # noqa: E731
    yield "torch _weight_int4pack_mm", words.nbytes + scales.nbytes, work


def _copies(nbytes: int) -> int:
    return max(2, -(-_BYTES // nbytes))


def _turns(items: list[Any]) -> Callable[[], Any]:
    """The items over and over."""
    at = -1

    def following() -> Any:
        nonlocal at
        at = (at + 1) % len(items)
        return items[at]

    return following


def _difference(tiles: Tiles) -> str:
    return ", ".join(f"{name} {value}" for name, value in asdict(tiles).items() if value != asdict(Tiles())[name])
