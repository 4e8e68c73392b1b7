"""The real engine in its real process, on the default model: stopping, the end of the process, and going on after it."""

import os
import signal
import statistics
import time

import psutil
import pytest

from app.engine_client import EngineClient
from app.messages import JobEnded, RunJob
from core.config import RunConfig
from core.events import INSPECT, AttentionCaptured, Failed, PrefillProgress, RunFinished, RunRequest, Step

STORY = "Tell me a very long story about a lighthouse."
LIMITLESS = RunConfig().set(["run.max_new_tokens=4000", "run.ignore_eos=true"])


@pytest.fixture(scope="module")
def client():
    client = EngineClient()
    yield client
    client.close()


def _until(client, kind, seconds=120.0):
    """What was said up to and with the first event of `kind`."""
    said, until = [], time.monotonic() + seconds
    while not any(isinstance(event, kind) for event in said):
        assert time.monotonic() < until, f"no {kind.__name__}; state {client.state}"
        said += [envelope.event for envelope in client.poll()]
        time.sleep(0.002)
    return said


def _seconds_to_stop(client):
    """From Stop to the end of the job."""
    began = time.monotonic()
    client.stop()
    said = _until(client, JobEnded)
    spent = time.monotonic() - began
    assert next(event for event in said if isinstance(event, RunFinished)).reason == "stopped"
    assert said[-1] == JobEnded(stopped=True)
    return spent


def _assert_no_core_is_busy(client):
    process = psutil.Process(client.pid)
    process.cpu_percent()
    time.sleep(1.0)
    assert process.cpu_percent() < 10


def test_that_stop_ends_a_decode_within_200_ms(client):
    spent = []
    for _ in range(3):
        client.submit(RunJob((RunRequest(LIMITLESS, STORY),)))
        _until(client, Step)
        time.sleep(0.1)
        spent.append(_seconds_to_stop(client))
    assert statistics.median(spent) < 0.2
    _assert_no_core_is_busy(client)


def test_that_stop_ends_a_long_prefill_within_a_second(client):
    client.submit(RunJob((RunRequest(LIMITLESS, "word " * 6000, chat=False),)))
    _until(client, PrefillProgress)
    assert _seconds_to_stop(client) < 1.0
    _assert_no_core_is_busy(client)


def test_that_an_inspected_run_arrives_whole(client):
    config = RunConfig().set(["run.max_new_tokens=8", "run.ignore_eos=true"])
    client.submit(RunJob((RunRequest(config, STORY, inspect=INSPECT),)))
    said = _until(client, JobEnded)
    assert sum(len(event.tokens) for event in said if isinstance(event, Step)) == 8
    assert {event.layer for event in said if isinstance(event, AttentionCaptured)} == set(range(30))


def test_that_the_next_configuration_runs_after_one_that_cannot(client):
    impossible = RunConfig().set(["ffn.name=experts"])
    client.submit(RunJob((RunRequest(impossible, STORY), RunRequest(RunConfig().set(["run.max_new_tokens=2"]), STORY))))
    said = _until(client, JobEnded)
    assert [type(event) for event in said if isinstance(event, Failed | RunFinished)] == [Failed, RunFinished]
    assert next(event for event in said if isinstance(event, Failed)).bad_input


def test_that_a_killed_engine_can_be_restarted_and_runs_again(client):
    client.submit(RunJob((RunRequest(LIMITLESS, STORY),)))
    _until(client, Step)
    os.kill(client.pid, signal.SIGKILL)
    said = _until(client, JobEnded)
    assert "killed by signal 9" in next(event for event in said if isinstance(event, Failed)).message
    client.restart()
    client.submit(RunJob((RunRequest(RunConfig().set(["run.max_new_tokens=2"]), STORY),)))
    assert isinstance(_until(client, JobEnded)[-2], RunFinished)
