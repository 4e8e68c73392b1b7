"""A model that is no longer kept takes no memory."""

import gc
import weakref

from core.config import RunConfig
from core.engine.engine import Engine
from core.engine.local import LocalBackend
from core.events import RunRequest
from core.trace import record


def _run(engine: Engine, bits: int) -> None:
    config = RunConfig().set(["weights.name=rtn", f"weights.bits={bits}", "run.max_new_tokens=2"])
    record(engine.run(RunRequest(config, "Hello", chat=False)))


def test_that_four_models_are_kept_and_the_oldest_is_let_go() -> None:
    engine = Engine()
    _run(engine, 8)
    (prepared,) = engine._prepared._kept.values()
    assert isinstance(prepared.backend, LocalBackend)
    first = weakref.ref(prepared.backend.decoder)
    del prepared
    for bits in (7, 6, 5):
        _run(engine, bits)
    assert first() is not None
    _run(engine, 4)
    gc.collect()
    assert first() is None
