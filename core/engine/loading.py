"""Loading that can be watched and stopped, and the loaded models that are kept for the next run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event as Flag
from threading import Thread
from time import perf_counter

from core.config import RunConfig
from core.engine.backend import Backend, Progress, Stop, Stopped
from core.events import LoadProgress
from core.hardware import memory_available
from core.memory import give_back
from core.models.info import ModelInfo

_LOOK_EVERY = 0.05  # seconds
_ROOM = 1.3  # free memory asked for, in bytes of the weights: conversion holds a matrix twice for a moment

Load = Callable[[Progress], Backend]


@dataclass(frozen=True)
class Prepared:
    """A loaded backend. seconds: how long loading took, imports apart."""

    backend: Backend
    seconds: float


class Prepareds:
    """Loaded backends by the choices that made them, least recently used first; as many as memory holds."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Prepared] = OrderedDict()

    def find(self, config: RunConfig, info: ModelInfo) -> Prepared | None:
        key = _key(config, info)
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, config: RunConfig, info: ModelInfo, prepared: Prepared) -> None:
        self._kept[_key(config, info)] = prepared

    def make_room(self, config: RunConfig, info: ModelInfo) -> None:
        """Let go of models, the least recently used first, until the next one fits or none is left."""
        needed = _ROOM * weight_bytes(config, info)
        while self._kept and memory_available() < needed:
            self._kept.popitem(last=False)
            give_back()

    def forget(self) -> None:
        """Let go of every model."""
        self._kept.clear()
        give_back()


def _key(config: RunConfig, info: ModelInfo) -> Hashable:
    """The choices that shape the loaded weights, and the state of the files they come from."""
    path = Path(info.path)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stamps = tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file())
    return info.path, stamps, config.heads, config.ffn, config.weights, config.engine


def weight_bytes(config: RunConfig, info: ModelInfo) -> int:
    """Bytes the weights will take, roughly: what decides how many models are kept, and nothing that is shown."""
    options = config.weights.options
    match config.weights.name:
        case "native":
            return info.weight_bytes
        case "cast":
            return info.parameters * (4 if options.dtype == "float32" else 2)
        case _:
            return max(info.weight_bytes, info.parameters * 2)


def loading(load: Load, stop: Stop) -> Generator[LoadProgress, None, Prepared]:
    """Run `load` in a thread of its own and yield its progress as it comes; returns what it made.

    Raises Stopped once the thread has noticed Stop at its next progress, or whatever `load` raised.
    """
    said: SimpleQueue[LoadProgress | None] = SimpleQueue()
    cancelled = Flag()
    outcome = _Outcome()

    def progress(stage: str, done: int, total: int) -> None:
        if cancelled.is_set():
            raise Stopped
        said.put(LoadProgress(stage, done, total))

    def work() -> None:
        outcome.of(load, progress)
        said.put(None)

    thread = Thread(target=work, name="load", daemon=True)
    thread.start()
    try:
        while (news := _next(said, stop, cancelled)) is not None:
            yield news
    finally:
        cancelled.set()
        thread.join()
    return outcome.result()


def _next(said: SimpleQueue[LoadProgress | None], stop: Stop, cancelled: Flag) -> LoadProgress | None:
    """The next progress, or None at the end; meanwhile looks at Stop."""
    while True:
        try:
            return said.get(timeout=_LOOK_EVERY)
        except Empty:
            pass
        if stop():
            cancelled.set()


class _Outcome:
    """What a thread made, or the error it ended in."""

    def __init__(self) -> None:
        self._made: Prepared | None = None
        self._error: BaseException | None = None

    def of(self, load: Load, progress: Progress) -> None:
        began = perf_counter()
        try:
            self._made = Prepared(load(progress), perf_counter() - began)
        except BaseException as error:  # it is raised again where the result is asked for
            self._error = error

    def result(self) -> Prepared:
        if self._error is not None:
            raise self._error
        assert self._made is not None
        return self._made
