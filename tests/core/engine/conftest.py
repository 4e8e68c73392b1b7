"""The engine, and a tiny random llama on disk for it to run."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_harness import Harness, save_llama

from core.engine.engine import Engine


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-llama")
    save_llama(folder)
    return folder


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine()


@pytest.fixture(scope="session", params=["transformers", "local"])
def harness(request: pytest.FixtureRequest, engine: Engine, tiny_llama: Path) -> Harness:
    return Harness(engine, tiny_llama, request.param)
