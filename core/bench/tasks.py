"""What a child process measures: one engine, a prompt, and a clock."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any

import psutil

from core.bench.adapter import Adapter, Job
from core.errors import RunFailed
from core.hardware import product_speed, read_speed
from core.memory import PeakMemory

MEMORY_CONTEXT = 2048  # tokens held while the peak of memory is measured
ROWS_CONTEXT = 128  # tokens held while passes of one and of several rows are measured
_ROWS = 5  # the last token and four drafted ones
_PAIRS = 12  # passes of one row and of several that take turns
_WARM = 4  # untimed passes before timed ones: what other processes threw out of the caches comes back
_LONGEST = 3.0  # seconds of one decode measurement, once it has the fewest steps
_FEWEST = 8  # steps

Answer = dict[str, Any]


class Tasks:
    """The requests of one child process by name, each a method that takes what the request holds."""

    def __init__(self, kind: type[Adapter]) -> None:
        self._kind = kind
        self._engine: Adapter | None = None
        self._prompt: list[int] = []
        self._held = 0  # tokens of the prompt that the engine holds
        kind.import_all()

    def answer(self, request: dict[str, Any]) -> Answer:
        """Raises PlaygroundError, or whatever the engine raises."""
        known: dict[str, Callable[..., Answer]] = {
            "memory": self.memory,
            "load": self.load,
            "prefill": self.prefill,
            "decode": self.decode,
            "rows": self.rows,
        }
        arguments = dict(request)
        return known[arguments.pop("do")](**arguments)

    def memory(self, job: dict[str, Any], prompt: list[int]) -> Answer:
        """The first request: a first load, and the peak of resident bytes of it and of a short decode after `prompt`.

        about: version and build. imports: resident bytes once everything is imported. peak: None off Linux.
        """
        imports, peak = psutil.Process().memory_info().rss, PeakMemory()
        loaded = self.load(job, prompt)
        self._decode(len(prompt), _FEWEST)
        about = self._kind.about()
        return {"about": about, "imports": imports, "peak": peak.bytes(), "first_load": loaded["seconds"]}

    def load(self, job: dict[str, Any], prompt: list[int]) -> Answer:
        """Load anew; seconds of that alone. Then a few passes, which are not timed."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
            gc.collect()
        began = perf_counter()
        self._engine = engine = self._kind(Job(**{**job, "settings": tuple(job["settings"])}))
        seconds = perf_counter() - began
        self._prompt, self._held = prompt, 0
        self._decode(min(ROWS_CONTEXT, len(prompt)), _WARM)
        return {"seconds": seconds, "weight_bytes": engine.weight_bytes, "kv_bytes": engine.kv_bytes}

    def prefill(self, context: int) -> Answer:
        """Seconds from an empty cache to the first token after `context` tokens of the prompt."""
        self._fill(0)
        began = perf_counter()
        self._fill(context)
        return {"seconds": perf_counter() - began}

    def decode(self, context: int, tokens: int) -> Answer:
        """Seconds of greedy steps, one token each, after `context` tokens, and the ids that they gave.

        As many steps as `tokens`, or fewer, down to 8, where they take longer than 3 s.
        """
        seconds, ids = self._decode(context, tokens)
        return {"seconds": seconds, "ids": ids}

    def rows(self) -> Answer:
        """Seconds of a pass of one row and of one of five, each with all logits: medians of passes in turns."""
        one, several = (list(each) for each in zip(*((self._pass(1), self._pass(_ROWS)) for _ in range(_PAIRS))))
        return {"one": statistics.median(one), "several": statistics.median(several), "rows": _ROWS}

    def _pass(self, rows: int) -> float:
        context = min(ROWS_CONTEXT, len(self._prompt))
        self._fill(context)
        began = perf_counter()
        self._ready().feed(self._prompt[:rows], every=True)
        seconds = perf_counter() - began
        self._back(context)
        return seconds

    def _decode(self, context: int, tokens: int) -> tuple[float, list[int]]:
        for _ in range(_WARM):
            self._fill(context - 1)
            last = self._fill(context)
        engine, ids = self._ready(), [last]
        began = perf_counter()
        while len(ids) <= tokens and (len(ids) <= _FEWEST or perf_counter() - began < _LONGEST):
            ids.append(engine.feed(ids[-1:]))
        seconds = perf_counter() - began
        self._back(context)
        return seconds, ids[1:]

    def _fill(self, context: int) -> int:
        """Hold the first `context` tokens of the prompt; the greedy token after the last one that was fed."""
        if context < self._held:
            self._back(context)
        missing, self._held = self._prompt[self._held : context], context
        return self._ready().feed(missing) if missing else -1

    def _back(self, context: int) -> None:
        """Forget all but `context` tokens, or all of them where the cache cannot go back there: they are fed again in time."""
        try:
            self._ready().trim(context)
        except RunFailed:
            self._ready().trim(0)
            context = 0
        self._held = context

    def _ready(self) -> Adapter:
        assert self._engine is not None
        return self._engine


class Peaks:
    """In place of an engine: what the machine itself does at this moment."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def answer(self, request: dict[str, Any]) -> Answer:
        """Bytes per second, and operations per second in both formats."""
        products = {dtype: product_speed(dtype, self._threads) for dtype in ("float32", "bfloat16")}
        return {"read": read_speed(self._threads), **products}
