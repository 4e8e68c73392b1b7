"""Decoding and loading of the default model against transformers, in the same run. `make bench` runs this.

The machine may be busy: rounds are interleaved, medians are compared, and figures are printed as ratios.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest

from core.config import RunConfig
from core.engine.engine import Engine
from core.events import RunRequest
from core.models.find import resolve
from core.trace import Trace, record

PROMPT = "The history of the city begins with a small harbour, and the people who lived there"
TOKENS, ROUNDS = 64, 5


@pytest.fixture
def theirs() -> Iterator[Callable[[], float]]:
    """Tokens a second of transformers' generate in bfloat16, with OpenMP as it is by default, not as the core sets it."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, str(Path(__file__).with_name("peer.py")), str(resolve("default")), PROMPT, str(TOKENS)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as peer:
        assert peer.stdin is not None
        assert peer.stdout is not None
        send, receive = peer.stdin, peer.stdout

        def measure() -> float:
            print(file=send, flush=True)
            return float(receive.readline())

        yield measure
        send.close()


def ours(engine: Engine) -> Trace:
    config = RunConfig().set([f"run.max_new_tokens={TOKENS}", "run.ignore_eos=true"])
    return record(engine.run(RunRequest(config, PROMPT, chat=False)))


def decode_speed(engine: Engine) -> float:
    finished = ours(engine).finished
    assert finished is not None
    speed = finished.metrics["decode_tokens_per_s"]
    assert speed is not None
    return speed


def test_that_decoding_is_at_least_four_times_as_fast_as_transformers(theirs: Callable[[], float]) -> None:
    engine = Engine()
    decode_speed(engine), theirs()
    pairs = [(decode_speed(engine), theirs()) for _ in range(ROUNDS)]
    ratio = median(mine for mine, _ in pairs) / median(other for _, other in pairs)
    figures = [(round(mine, 1), round(other, 1)) for mine, other in pairs]
    print(f"\ndecode tok/s, ours and transformers bf16: {figures}; ratio of medians {ratio:.2f}")
    assert ratio >= 4


def test_that_loading_takes_under_three_seconds() -> None:
    loads = [ours(Engine()).loaded for _ in range(ROUNDS)]
    seconds = [round(loaded.seconds, 2) for loaded in loads if loaded is not None]
    print(f"\nload s: {seconds}")
    assert median(seconds) < 3
