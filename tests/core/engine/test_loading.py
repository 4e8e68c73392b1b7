"""Loading: progress as it happens, Stop, errors, and which models are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event as Flag

import pytest
from engine_harness import Harness

from core.engine import loading as module
from core.engine.backend import Progress, Stopped
from core.engine.engine import Engine
from core.engine.loading import Prepareds, loading
from core.engine.loop import Generation
from core.errors import BadInput, RunFailed
from core.events import Event, LoadProgress


def test_that_progress_streams_while_the_work_goes_on() -> None:
    seen = Flag()

    def work(progress: Progress) -> str:
        progress("reading", 1, 2)
        assert seen.wait(5)  # goes on only once the first progress was read
        progress("reading", 2, 2)
        return "made"

    events = loading(work, lambda: False)
    assert next(events) == LoadProgress("reading", 1, 2)
    seen.set()
    assert next(events) == LoadProgress("reading", 2, 2)
    with pytest.raises(StopIteration) as end:
        next(events)
    assert end.value.value == "made"


def test_that_stop_reaches_the_work_at_its_next_progress() -> None:
    def work(progress: Progress) -> None:
        while True:
            progress("reading", 0, 1)

    with pytest.raises(Stopped):
        list(zip(loading(work, lambda: True), range(10**6)))  # ends by Stopped, not by the range


def test_that_what_goes_wrong_is_raised_where_it_was_asked_for() -> None:
    def work(_progress: Progress) -> None:
        raise BadInput("no such model")

    with pytest.raises(BadInput, match="no such model"):
        list(loading(work, lambda: False))


def test_that_a_reader_who_leaves_ends_the_work() -> None:
    ended = Flag()

    def work(progress: Progress) -> None:
        try:
            while True:
                progress("reading", 0, 1)
        finally:
            ended.set()

    events = loading(work, lambda: False)
    next(events)
    events.close()
    assert ended.is_set()


def loads(events: Iterator[Event]) -> bool:
    """Whether a run had to load its model; runs it to the end."""
    return LoadProgress in [type(event) for event in events]


def test_that_the_least_recently_used_model_makes_room(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(Engine(), tiny_llama, "transformers")
    short = ("run.max_new_tokens=1",)
    first = harness.request("the", *short)
    second = harness.request("the", *short, "weights.name=cast", "weights.dtype=bfloat16")
    assert loads(harness.events(first))
    assert loads(harness.events(second))
    assert not loads(harness.events(first))
    # Room for one model only: a third one takes the place of the second, then of the first.
    kept: Prepareds = harness.engine._prepared
    monkeypatch.setattr(module, "memory_available", lambda: 0 if len(kept._kept) > 1 else 2**40)
    assert loads(harness.events(harness.request("the", *short, "weights.name=cast", "weights.dtype=float16")))
    assert not loads(harness.events(first))
    assert loads(harness.events(second))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")]
)
def test_that_running_out_of_memory_is_one_sentence_and_frees_the_models(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    harness = Harness(Engine(), tiny_llama, "transformers")

    def fail(_self: Generation) -> Iterator[Event]:
        raise error

    monkeypatch.setattr(Generation, "events", fail)
    with pytest.raises(RunFailed, match="out of memory") as told:
        list(harness.events(harness.request("the")))
    assert "\n" not in str(told.value)
    monkeypatch.undo()
    assert loads(harness.events(harness.request("the", "run.max_new_tokens=1")))


def test_that_other_errors_are_not_hidden(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(Engine(), tiny_llama, "transformers")

    def fail(_self: Generation) -> Iterator[Event]:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Generation, "events", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        list(harness.events(harness.request("the")))


def test_that_an_unknown_model_is_bad_input() -> None:
    harness = Harness(Engine(), Path("/no/such/folder"), "local")
    with pytest.raises(BadInput, match="no such file or folder"):
        list(harness.events(harness.request("the")))
