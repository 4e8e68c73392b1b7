"""A real child process, with this program's own engine and the default model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from core.bench import tasks
from core.bench.adapter import Adapter, Job
from core.bench.child import Child
from core.bench.prompt import prompt_ids
from core.bench.run import Progress, run
from core.bench.tasks import Tasks
from core.errors import BadInput, RunFailed
from core.models.find import resolve
from tests.core.bench.bench_records import OURS, settings


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child("local", 1)
    yield child
    child.kill()


def test_that_a_child_measures_this_programs_engine(child: Child) -> None:
    path = resolve("default")
    job = {"model": str(path), "threads": 1, "room": 64, "settings": ["weights.name=native"]}
    memory = child.ask(do="memory", job=job, prompt=prompt_ids(path, 16))
    assert "torch" in memory["about"]
    assert memory["peak"] > memory["imports"] > 2**24
    loaded = child.ask(do="load", job=job, prompt=prompt_ids(path, 32))
    assert 0 < loaded["seconds"] < 60
    assert loaded["weight_bytes"] > 5e7
    assert loaded["kv_bytes"] == 2 * 30 * 3 * 64 * 2
    assert child.ask(do="prefill", context=32)["seconds"] > 0
    first, again = (child.ask(do="decode", context=32, tokens=8) for _ in range(2))
    assert first["ids"] == again["ids"]
    rows = child.ask(do="rows")
    assert 0 < rows["one"] < 5 * rows["several"]


def test_that_a_quantized_cache_is_measured_like_any_other(child: Child) -> None:
    path = resolve("default")
    job = {"model": str(path), "threads": 1, "room": 128, "settings": ["cache.name=quantized", "cache.bits=8"]}
    child.ask(do="memory", job=job, prompt=prompt_ids(path, 16))
    loaded = child.ask(do="load", job=job, prompt=prompt_ids(path, 80))
    assert loaded["kv_bytes"] == 2 * 30 * 3 * 64 * (8 + (32 / 32 + 32 / 64) / 2) // 8
    child.ask(do="prefill", context=80)
    child.ask(do="decode", context=80, tokens=40)
    first, again = (child.ask(do="decode", context=80, tokens=40) for _ in range(2))
    assert len(first["ids"]) == 40
    assert first["ids"] == again["ids"]


def test_that_a_child_says_what_it_cannot_load(child: Child, tmp_path: Path) -> None:
    job = {"model": str(tmp_path / "absent.gguf"), "threads": 1, "room": 64, "settings": []}
    with pytest.raises(RunFailed, match=r"absent\.gguf: no such file"):
        child.ask(do="load", job=job, prompt=[1])


def test_that_a_child_that_ends_is_told_from_one_that_answers() -> None:
    child = Child("no such engine", 1)
    child._process.kill()
    with pytest.raises(RunFailed, match="its process ended with code -9"):
        child.ask(do="rows")
    child.kill()


class Counting(Adapter):
    """Answers with how many tokens it holds."""

    weight_bytes = kv_bytes = 1

    @classmethod
    def about(cls) -> str:
        return ""

    def __init__(self, job: Job) -> None:
        self.held: list[int] = []

    def feed(self, tokens: list[int], every: bool = False) -> int:  # type: ignore[override]
        self.held += tokens
        return len(self.held)

    def trim(self, length: int) -> None:
        del self.held[length:]


class Forgetful(Counting):
    """Goes back to the beginning alone."""

    def trim(self, length: int) -> None:
        if 0 < length < len(self.held):
            raise RunFailed("gone")
        super().trim(length)


@pytest.fixture(params=[Counting, Forgetful])
def counting(request: pytest.FixtureRequest) -> Tasks:
    loaded = Tasks(request.param)
    loaded.answer({"do": "load", "job": {"model": "", "threads": 1, "room": 99, "settings": []}, "prompt": list(range(20))})
    return loaded


def test_that_decoding_starts_from_the_prompt_each_time_whatever_was_measured_before(counting: Tasks) -> None:
    for request in ({"do": "prefill", "context": 20}, {"do": "rows"}, {"do": "decode", "context": 5, "tokens": 9}) * 2:
        counting.answer(request)
    decoded = counting.answer({"do": "decode", "context": 12, "tokens": 9})
    assert decoded["ids"] == list(range(13, 22))
    engine = counting._engine
    assert isinstance(engine, Counting)
    assert engine.held == list(range(12))[: counting._held]
    assert counting._held == (0 if isinstance(engine, Forgetful) else 12)


def test_that_an_engine_that_is_slow_decodes_fewer_tokens(counting: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_LONGEST", 0.0)
    assert len(counting.answer({"do": "decode", "context": 5, "tokens": 15})["ids"]) == 8


def test_that_a_context_that_the_model_does_not_take_is_refused_before_anything_starts() -> None:
    seen: list[Progress] = []
    with pytest.raises(BadInput, match="the model takes 8192 in all"):
        run(settings(OURS, contexts=(8192,)), seen.append)
    assert seen == []


def test_that_ctrl_c_ends_the_children() -> None:
    before = set(psutil.Process().children())

    def interrupt(_: Progress) -> None:
        assert set(psutil.Process().children()) - before
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(settings(OURS), interrupt)
    assert not set(psutil.Process().children()) - before
