"""Loading that can be watched and stopped, and the loaded models that are kept for the next run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event as Flag
from threading import Thread, current_thread
from time import perf_counter
from typing import TypeVar

import torch

from core.config import RunConfig
from core.cuda.support import device_of
from core.engine.backend import Backend, Progress, Stop, Stopped
from core.events import LoadProgress
from core.hardware import memory_available
from core.heads.choice import heads_file
from core.memory import give_back, settle
from core.models.info import ModelInfo

_LOOK_EVERY = 0.05  # seconds
_ROOM = 1.3  # free memory asked for, in bytes of the weights: conversion holds a matrix twice for a moment
_MOST = 4  # as many as configurations stand side by side

T = TypeVar("T")


@dataclass(frozen=True)
class Prepared:
    """A loaded backend. seconds: how long loading took, imports apart."""

    backend: Backend
    seconds: float

    @classmethod
    def load(cls, config: RunConfig, progress: Progress) -> Prepared:
        """Load what `config` names."""
        kind: type[Backend] = config.engine.technique.load()
        began = perf_counter()
        return cls(kind.load(config, progress), perf_counter() - began)


class Prepareds:
    """Loaded backends by the choices that made them, least recently used first; as many as memory holds, four at most."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Prepared] = OrderedDict()

    def find(self, config: RunConfig, info: ModelInfo) -> Prepared | None:
        key = _key(config, info)
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, config: RunConfig, info: ModelInfo, prepared: Prepared) -> None:
        self._kept[_key(config, info)] = prepared
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)
            give_back()
        settle()

    def make_room(self, config: RunConfig, info: ModelInfo) -> None:
        """Let go of models, the least recently used first, until the next one fits or none is left."""
        needed = _ROOM * weight_bytes(config, info)
        while self._kept and _free(config, info) < needed:
            self._kept.popitem(last=False)
            give_back()

    def forget(self) -> None:
        """Let go of every model."""
        self._kept.clear()
        give_back()


def _free(config: RunConfig, info: ModelInfo) -> int:
    """Bytes left where the model will run."""
    if _device(config, info) == "cpu" or not torch.cuda.is_available():
        return memory_available()
    torch.cuda.empty_cache()  # what models let go of, torch keeps for itself
    return torch.cuda.mem_get_info()[0]


def _device(config: RunConfig, info: ModelInfo) -> str:
    return device_of(config, info) if config.engine.name == "local" else "cpu"


def _key(config: RunConfig, info: ModelInfo) -> Hashable:
    """The choices that shape the loaded weights, the device that they lie on, and the state of the files they come from."""
    file = heads_file(config, info)
    files = state_of(Path(info.path)), file and state_of(file)
    return files, config.heads, config.ffn, config.weights, config.engine, _device(config, info)


def state_of(path: Path) -> Hashable:
    """Equal as long as the files of a model are unchanged."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return path, tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file())


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


def loading(work: Callable[[Progress], T], stop: Stop) -> Generator[LoadProgress, None, T]:
    """Run `work` in a thread of its own and yield its progress as it comes; returns what it made.

    Raises Stopped once the thread has noticed Stop at its next progress, or whatever `work` raised.
    """
    said: SimpleQueue[LoadProgress | None] = SimpleQueue()
    cancelled = Flag()
    result: Future[T] = Future()

    def progress(stage: str, done: int, total: int) -> None:
        if cancelled.is_set():
            raise Stopped
        said.put(LoadProgress(stage, done, total))

    def run() -> None:
        try:
            result.set_result(work(progress))
        except BaseException as error:  # raised again by result(), in the thread that asked
            result.set_exception(error)
        said.put(None)

    thread = Thread(target=run, name="load", daemon=True)
    thread.start()
    try:
        while (news := _next(said, stop, cancelled)) is not None:
            yield news
    finally:
        cancelled.set()
        if thread is not current_thread():  # which may be the one to collect a generator that was left half read
            thread.join()
    return result.result()


def _next(said: SimpleQueue[LoadProgress | None], stop: Stop, cancelled: Flag) -> LoadProgress | None:
    """The next progress, or None at the end; looks at Stop meanwhile."""
    while True:
        if stop():
            cancelled.set()
        with suppress(Empty):
            return said.get(timeout=_LOOK_EVERY)
