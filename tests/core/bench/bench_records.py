"""Records as a benchmark makes them, without a benchmark."""

from __future__ import annotations

from typing import Any

from core.bench.columns import Column
from core.bench.plan import Measure, Settings
from core.bench.run import Measured, Record
from core.models.info import ModelInfo

OURS, THEIRS = Column("native", "local", ("weights.name=native",)), Column("llama.cpp", "llama.cpp")
INFO = ModelInfo(
    "tiny", "/tiny.gguf", "gguf", "llama", "local", layers=2, width=8, query_heads=2, kv_heads=1, head_size=4, ffn_width=16,
    vocabulary=10, context=4096, parameters=1000, tied_head=True,
)  # fmt: skip


def settings(*columns: Column, contexts: tuple[int, ...] = (128,), rounds: int = 3) -> Settings:
    return Settings("default", columns, contexts, tokens=10, rounds=rounds, threads=2)


def decode(*seconds: float | None, ids: tuple[int, ...] = (1, 2, 3, 4)) -> list[dict[str, Any] | None]:
    """Answers of four steps, one for each round."""
    return [None if each is None else {"seconds": each, "ids": list(ids), "elsewhere": 0.0} for each in seconds]


def measured(column: Column, decoded: list[dict[str, Any] | None]) -> Measured:
    prefilled = [{"seconds": 0.5, "elsewhere": 0.0}, None, None]
    return Measured(
        column,
        {
            Measure("load"): [{"seconds": 1.0, "elsewhere": 0.0}],
            Measure("rows"): [{"one": 0.01, "several": 0.015, "rows": 5, "elsewhere": 0.0}],
            Measure("prefill", 128): prefilled,
            Measure("decode", 128): decoded,
        },
        {"about": f"{column.engine} 1.0", "imports": 2**20, "peak": 3 * 2**20, "first_load": 2.0},
        {"weight_bytes": 1000, "kv_bytes": 10},
    )


def record(*columns: Measured, rounds: int = 3) -> Record:
    peaks = ({"read": 1e6, "float32": 1e6, "bfloat16": 4e6}, {"read": 2e6, "float32": 1e6, "bfloat16": 3e6})
    asked = settings(*(each.column for each in columns), rounds=rounds)
    return Record(asked, INFO, columns, peaks, {"processor": "a processor"})
