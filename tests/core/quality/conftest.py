"""A tiny random llama on disk, its plain float32 twin, and a text for both."""

from __future__ import annotations

import pytest
import transformers
from quality_harness import EXACT, Twin

from core.config import RunConfig
from core.engine.engine import Engine
from core.engine.loading import Prepared
from tests.core.engine.engine_harness import save_llama


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine()


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Twin:
    folder = tmp_path_factory.mktemp("tiny-llama")
    save_llama(folder)
    text = folder / "text.txt"
    text.write_text(" ".join(f"the cat {n} sat on the mat and the dog {n * n} sat." for n in range(60)))
    exact = RunConfig(model=str(folder)).set(EXACT)
    backend = Prepared.load(exact, lambda *_: None).backend
    return Twin(folder, text, backend, transformers.AutoModelForCausalLM.from_pretrained(folder).eval())
