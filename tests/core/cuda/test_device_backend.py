"""Whole runs on the backend of a device: on the processor, and on a GPU with graphs and Triton's kernels where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from core.config import RunConfig
from core.cuda.backend import DeviceBackend
from core.engine.engine import Engine, never
from core.engine.loop import Generation
from core.engine.planned import Planned
from core.engine.watch import Clock, Watch
from core.events import INSPECT, MEASURE, AttentionCaptured, Event, RunRequest
from core.trace import record
from tests.core.engine.engine_harness import save_llama

PROMPT = tuple(range(100, 170))
LOOKUP = "decoding.name=prompt_lookup"
SETTINGS = [
    "weights.name=cast",
    "cache.name=static",
    "cache.name=offloaded",
    "attention.name=window attention.window=9",
    "attention.name=sink_window attention.sinks=2 attention.window=9",
    "heads.name=kv_sharing heads.kv_heads=1",
    "weights.name=rtn weights.bits=4 weights.group_size=32",
    "weights.name=rtn weights.bits=8 weights.group_size=32",
]

SPARSE = [  # the heads of the model are too small for a GPU
    "attention.name=dilated attention.window=5 attention.dilation=3",
    "attention.name=bigbird attention.block=8 attention.window_blocks=1 attention.random_blocks=1 heads.name=kv_sharing",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-llama")
    save_llama(folder)
    return folder


def quiet(_stage: str, _done: int, _total: int) -> None:
    """Nobody is told."""


def run(model: Path, device: torch.device, settings: Sequence[str], inspect: bool = False) -> tuple[Generation, list[Event]]:
    """A finished run of PROMPT on `device`."""
    config = RunConfig(model=str(model)).set(["run.ignore_eos=true", "run.max_new_tokens=40", *settings])
    backend = DeviceBackend.of(Planned.of(config, quiet), config, device, quiet)
    request = RunRequest(config, chat=False, prompt_tokens=PROMPT, inspect=INSPECT if inspect else MEASURE)
    layers = range(backend.info.layers) if inspect else ()
    generation = Generation(backend, request, PROMPT, Watch(never, layers), Clock())
    return generation, list(generation.events())


def new_tokens(generation: Generation) -> list[int]:
    return generation.tokens[len(PROMPT) :]


@pytest.mark.parametrize("settings", [*SETTINGS, *SPARSE])
def test_that_drafting_changes_no_token(model: Path, settings: str) -> None:
    drafted, _ = run(model, torch.device("cpu"), [*settings.split(), LOOKUP])
    plain, _ = run(model, torch.device("cpu"), settings.split())
    assert new_tokens(drafted) == new_tokens(plain)
    assert any(round_.accepted for round_ in drafted.rounds)


@pytest.mark.parametrize("settings", ["", "attention.name=window attention.window=20", *SPARSE, "cache.name=offloaded"])
def test_that_tokens_are_those_of_the_local_engine(model: Path, settings: str) -> None:
    chosen = ["weights.name=cast", *settings.split()]
    config = RunConfig(model=str(model)).set(["run.ignore_eos=true", "run.max_new_tokens=40", "engine.device=cpu", *chosen])
    trace = record(Engine().run(RunRequest(config, chat=False, prompt_tokens=PROMPT)))
    generation, _ = run(model, torch.device("cpu"), chosen)
    assert new_tokens(generation) == [token.id for token in trace.tokens]


def test_that_an_inspected_run_shows_attention_and_gives_the_same_tokens(model: Path) -> None:
    plain, _ = run(model, torch.device("cpu"), [LOOKUP])
    inspected, events = run(model, torch.device("cpu"), [LOOKUP], inspect=True)
    assert new_tokens(inspected) == new_tokens(plain)
    shown = [event for event in events if isinstance(event, AttentionCaptured)]
    assert {event.layer for event in shown} == {0, 1}
    assert {event.step for event in shown} == {step.index for step in inspected.steps}
    assert all(token.probability for step in inspected.steps for token in step.tokens)


@pytest.mark.parametrize("settings", [*SETTINGS, "weights.name=cast weights.dtype=float16"])
def test_that_drafting_changes_no_token_on_a_gpu(gpu: torch.device, model: Path, settings: str) -> None:
    drafted, _ = run(model, gpu, [*settings.split(), LOOKUP])
    plain, _ = run(model, gpu, settings.split())
    assert new_tokens(drafted) == new_tokens(plain)


@pytest.mark.parametrize("settings", SETTINGS)
def test_that_graphs_give_what_they_were_recorded_from(gpu: torch.device, model: Path, settings: str) -> None:
    config = RunConfig(model=str(model)).set(settings.split())
    backend = DeviceBackend.of(Planned.of(config, quiet), config, gpu, quiet)
    session = backend.session(config, 200, Watch(never))
    inspected = backend.session(config, 200, Watch(never, attention_layers=(0,)))
    for part in (PROMPT, PROMPT[:1], PROMPT[:5], PROMPT[:1], *([PROMPT[:8]] * 8)):
        replayed, computed = (each.forward(part, all_logits=len(part) < 10) for each in (session, inspected))
        assert torch.equal(replayed, computed)


def test_that_the_engine_goes_to_the_gpu_by_itself_and_says_so(gpu: torch.device, model: Path) -> None:
    config = RunConfig(model=str(model)).set(["run.max_new_tokens=4"])
    trace = record(Engine().run(RunRequest(config, chat=False, prompt_tokens=PROMPT)))
    assert trace.started is not None
    assert torch.cuda.get_device_name(gpu) in trace.started.environment["device"]
