"""The engine: one frozen request in, events out, until the run ends."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterator
from contextlib import contextmanager, suppress

import torch

from core.compatibility import refuse
from core.config import RunConfig
from core.engine.backend import Stop, Stopped
from core.engine.loading import Prepared, Prepareds, loading, state_of
from core.engine.loop import Generation
from core.engine.prompt import prompt_ids, prompt_tokens
from core.engine.summary import Cost, metrics
from core.engine.watch import Clock, Watch
from core.environment import environment
from core.errors import BadInput, RunFailed
from core.events import Event, Inspect, Loaded, LoadProgress, Memory, RunFinished, RunRequest, RunStarted
from core.hardware import memory_budget
from core.heads.choice import told
from core.layers import parse_layers
from core.memory import Peak
from core.models.find import describe, locate, resolve
from core.models.info import ModelInfo
from core.quality.measure import measure_quality
from core.quality.needle import find_needles
from core.quality.request import MeasureRequest, NeedleRequest, QualityRequest
from core.quality.unmodified import unmodified


def never() -> bool:
    """The Stop of a run that nobody will stop."""
    return False


class Engine:
    """Runs requests one at a time, and keeps the models they loaded for the next ones."""

    def __init__(self) -> None:
        self._prepared = Prepareds()
        self._infos: dict[Hashable, ModelInfo] = {}

    def run(self, request: RunRequest, stop: Stop = never) -> Iterator[Event]:
        """The events of one run; the last one is RunFinished. A model kept from an earlier run is not loaded again: then
        there is no LoadProgress, and Loaded tells how long its loading took.

        `stop` is asked often and ends the run early, with reason `stopped`. A run stopped while loading just ends: it has
        neither RunStarted nor RunFinished.
        Raises BadInput before anything is computed, and RunFailed when memory runs out.
        """
        clock = Clock()
        with self._out_of_memory_is_said():
            yield from clock.outside(self._events(request, stop, clock))

    def _events(self, request: RunRequest, stop: Stop, clock: Clock) -> Iterator[Event]:
        try:
            info = yield from self._described(request.config.model, stop)
            refuse(request.config, info)
            inspected = _attention_layers(request.inspect, info)
            prepared = yield from self._loaded(request.config, info, stop)
        except Stopped:
            return
        yield Loaded(prepared.backend.info, prepared.seconds, prepared.backend.weight_bytes)
        yield from _generated(prepared, request, inspected, stop, clock)

    def measure(self, request: MeasureRequest, stop: Stop = never) -> Iterator[Event]:
        """The events of one measurement of quality: LoadProgress, QualityProgress, then QualityMeasured or NeedleMeasured.

        One that was stopped just ends. Raises BadInput and RunFailed as `run` does.
        """
        with self._out_of_memory_is_said(), suppress(Stopped):
            info = yield from self._described(request.config.model, stop)
            refuse(request.config, info)
            plain = unmodified(request.config, info)
            ours = yield from self._loaded(request.config, info, stop)
            match request:
                case QualityRequest():
                    base = yield from self._loaded(plain, info, stop)
                    yield from measure_quality(request, ours.backend, base.backend, plain, Watch(stop))
                case NeedleRequest():
                    yield from find_needles(request, ours.backend, Watch(stop))

    def _described(self, model: str, stop: Stop) -> Generator[LoadProgress, None, ModelInfo]:
        """What is known of the model, which is fetched first where that is needed. Its headers are read once."""
        try:
            path = locate(model)
        except BadInput:  # resolve fetches it, or says again what is wrong
            path = yield from loading(lambda progress: resolve(model, progress), stop)
        state = state_of(path)
        if state not in self._infos:
            self._infos[state] = describe(model)
        return self._infos[state]

    def _loaded(self, config: RunConfig, info: ModelInfo, stop: Stop) -> Generator[LoadProgress, None, Prepared]:
        prepared = self._prepared.find(config, info)
        if prepared is None:
            self._prepared.make_room(config, info)
            prepared = yield from loading(lambda progress: Prepared.load(config, progress), stop)
            self._prepared.keep(config, info, prepared)
        return prepared

    @contextmanager
    def _out_of_memory_is_said(self) -> Iterator[None]:
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            self._prepared.forget()
        else:
            return
        free = memory_budget() / 2**30
        raise RunFailed(
            f"out of memory: the run needed more than the {free:.1f} GiB there are for it; "
            "choose a smaller model, fewer bits, a shorter prompt or a smaller prefill_chunk"
        )


def _is_out_of_memory(error: Exception) -> bool:
    """torch raises a plain RuntimeError when the allocator of the processor fails."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _generated(
    prepared: Prepared, request: RunRequest, inspected: tuple[int, ...], stop: Stop, clock: Clock
) -> Iterator[Event]:
    backend = prepared.backend
    peak, about = backend.peak_memory(), environment() | {"device": backend.device} | told(request.config, backend.info)
    watch = Watch(stop, inspected, request.inspect.routing)
    clock.start()
    ids = prompt_ids(request, backend.tokenizer, backend.info)
    with clock.paused():
        shown = prompt_tokens(ids, backend.tokenizer)
    yield RunStarted(request.config, backend.info, request.prompt, request.chat, shown, request.inspect, about)
    generation = Generation(backend, request, ids, watch, clock)
    yield from generation.events()
    yield _finished(generation, prepared, peak)


def _attention_layers(inspect: Inspect, info: ModelInfo) -> tuple[int, ...]:
    return parse_layers(inspect.attention_layers, info.layers) if inspect.attention_layers else ()


def _finished(generation: Generation, prepared: Prepared, peak: Peak) -> RunFinished:
    backend, kv = prepared.backend, generation.session.kv_bytes
    memory = Memory(backend.weight_bytes, kv, peak.working(kv), 0, peak.bytes(), backend.memory_budget())
    assert generation.reason is not None
    step_bytes = (backend.pass_bytes * generation.passes + generation.kv_read) / max(1, len(generation.steps) - 1)
    cost = Cost(memory, prepared.seconds * 1000, step_bytes, backend.bandwidth())
    numbers = metrics(generation.steps, generation.rounds, generation.prompt, cost, generation.adopted)
    return RunFinished(generation.reason, generation.stream.text, numbers, memory)
