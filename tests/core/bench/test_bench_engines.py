"""The adapters of the engines: what is fed can be taken back, and a missing engine says how to get it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from core.bench.adapter import Adapter, Job
from core.bench.child import Child
from core.bench.llama_cpp import LlamaCpp, _library
from core.bench.local import Local
from core.bench.prompt import prompt_ids
from core.bench.transformers import Transformers
from core.errors import RunFailed
from core.models.find import resolve
from tests.core.engine.engine_harness import save_llama


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    save_llama(path)
    return path


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", [Local, Transformers])
def test_that_tokens_can_be_taken_back(kind: type[Adapter], folder: Path) -> None:
    engine = kind(Job(str(folder), 1, 32))
    engine.feed([1, 2, 3, 4, 5])
    seen = [engine.feed([6, 7, 8], every=every) for every in (False, True) if engine.trim(5) is None]
    assert seen[0] == seen[1]
    assert engine.weight_bytes > 1000
    assert engine.kv_bytes > 0


def test_that_without_llama_cpp_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    _library.cache_clear()
    with pytest.raises(RunFailed, match=r"llama_cpp cannot be imported .* pip install llama-cpp-python"):
        LlamaCpp.import_all()


@pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is optional and not installed")
def test_that_llama_cpp_writes_the_tokens_of_this_program() -> None:
    path = resolve("default")
    prompt, texts = prompt_ids(path, 128), []
    for engine in ("local", "llama.cpp"):
        child = Child(engine, 1)
        job = {"model": str(path), "threads": 1, "room": 160, "settings": []}
        child.ask(do="load", job=job, prompt=prompt)
        texts.append(child.ask(do="decode", context=128, tokens=8)["ids"])
        child.kill()
    assert texts[0] == texts[1]
