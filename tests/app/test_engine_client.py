"""The engine client with a real spawned process."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from app.engine_client import EngineClient
from app.engine_process import Factories
from app.messages import CompareJob, JobEnded, MeasureJob, RunJob
from core.config import RunConfig
from core.errors import RunFailed
from core.events import Failed, QualityProgress, RunRequest, TextDelta
from core.quality.request import QualityRequest
from tests.app import engines

ODD = Factories("tests.app.engines:Engine", "tests.app.engines:compare")


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setenv("INFERENCE_PLAYGROUND_CACHE", str(tmp_path))
    client = EngineClient(ODD)
    yield client
    client.close()


def _job(*prompts):
    return RunJob(tuple(RunRequest(None, prompt) for prompt in prompts))


def _poll_until(client, wanted, seconds=20.0):
    """Envelopes until one's event fits `wanted`; each poll is short."""
    said, until = [], time.monotonic() + seconds
    while not any(wanted(envelope.event) for envelope in said):
        assert time.monotonic() < until, f"nothing came; state {client.state}, said {said[-3:]}"
        before = time.monotonic()
        said += client.poll()
        assert time.monotonic() - before < 0.2
        time.sleep(0.005)
    return said


def _ended(event):
    return isinstance(event, JobEnded)


def _running(event):
    return isinstance(event, TextDelta)


def _names_itself(event):
    return _running(event) and event.text in ("talk", "capture")


def _measuring(event):
    return isinstance(event, QualityProgress)


def _do(client, job):
    client.submit(job)
    return [envelope.event for envelope in _poll_until(client, _ended)]


def test_that_events_come_in_order_and_the_job_ends(client):
    assert client.state == "starting"
    number = client.submit(_job("talk"))
    said = _poll_until(client, _ended)
    assert [envelope.event.text for envelope in said[:-1]] == ["talk", *map(str, range(engines.ROUNDS))]
    assert said[-1].event == JobEnded(stopped=False)
    assert {envelope.job for envelope in said} == {number}
    assert client.state == "idle"


def test_that_the_process_starts_with_the_first_poll_and_not_after_the_end(client):
    assert client.pid is None
    client.poll()
    engine = psutil.Process(client.pid)
    client.close()
    engine.wait(timeout=3)
    assert client.poll() == []
    assert not psutil.pid_exists(client.pid)


def test_that_columns_are_told_apart(client):
    client.submit(_job("talk", "refuse"))
    said = _poll_until(client, _ended)
    assert [envelope.event.text for envelope in said if envelope.column == 1 and _running(envelope.event)] == [
        "refuse",
        "so far",
    ]


def test_that_a_comparison_names_the_column_of_each_event(client):
    client.submit(CompareJob(_job("talk", "capture").requests, 2))
    began = [envelope for envelope in _poll_until(client, _ended) if _names_itself(envelope.event)]
    assert [envelope.column for envelope in began] == [0, 1, 0, 1]


def test_that_big_events_arrive_whole_while_every_poll_is_short(client):
    client.submit(_job("capture"))
    maps = [envelope.event for envelope in _poll_until(client, _ended)][1:-1]
    assert [captured.step for captured in maps] == list(range(60))
    assert maps[0].weights.shape == (9, 256, 256)


def test_that_bad_input_is_told_and_the_engine_lives_on(client):
    failed = _do(client, _job("refuse"))[-2]
    assert failed == Failed("weights.bits: 9 is out of range, 2 to 8", bad_input=True)
    assert _do(client, _job("talk"))[-1] == JobEnded(False)


def test_that_an_unforeseen_error_is_one_line_and_logged_in_full(client, tmp_path):
    failed = _do(client, _job("break"))[-2]
    assert failed.message.startswith("the run broke: ValueError: an error that (in full in ")
    assert "\n" not in failed.message
    assert "Traceback" in (tmp_path / "engine.log").read_text()


def test_that_what_ends_a_thread_of_the_engine_is_logged_in_full(client, tmp_path):
    assert _do(client, _job("thread"))[-2] == TextDelta("goes on")
    log = (tmp_path / "engine.log").read_text()
    assert log.count("Traceback") == log.count("KeyError: 'lost'\nthe thread “side” broke") == 1


def test_that_stop_ends_a_run_and_leaves_no_core_busy(client):
    client.submit(_job("wait"))
    _poll_until(client, _running)
    began = time.monotonic()
    client.stop()
    said = _poll_until(client, _ended)
    assert time.monotonic() - began < 0.2
    assert said[-1].event == JobEnded(stopped=True)
    process = psutil.Process(client.pid)
    process.cpu_percent()
    time.sleep(0.5)
    assert process.cpu_percent() < 10


def test_that_a_job_stopped_while_the_engine_starts_ends_at_once(client):
    client.submit(_job("hang"))
    client.stop()
    assert [envelope.event for envelope in client.poll()] == [JobEnded(stopped=True)]
    assert _do(client, _job("talk"))[-1] == JobEnded(False)


def test_that_a_run_which_does_not_stop_is_ended_and_restart_works(client):
    client.submit(_job("hang"))
    _poll_until(client, _running)
    client.stop()
    failed, ended = [envelope.event for envelope in _poll_until(client, _ended, 4)][-2:]
    assert failed.message == "the engine did not stop within 2 s, so its process was ended: press Restart"
    assert ended == JobEnded(stopped=True)
    assert client.state == "dead"
    with pytest.raises(RunFailed, match="press Restart"):
        client.submit(_job("talk"))
    client.restart()
    assert _do(client, _job("talk"))[-1] == JobEnded(False)


def test_that_a_killed_engine_is_told_and_restart_works(client):
    client.submit(_job("wait"))
    _poll_until(client, _running)
    os.kill(client.pid, signal.SIGKILL)
    failed, ended = [envelope.event for envelope in _poll_until(client, _ended)][-2:]
    assert failed.message.startswith("the engine process ended unexpectedly (killed by signal 9")
    assert failed.message.endswith("press Restart")
    assert ended == JobEnded(stopped=False)
    client.restart()
    assert client.state == "starting"
    assert _do(client, _job("talk"))[-1] == JobEnded(False)


def test_that_an_idle_engine_that_is_killed_is_noticed(client):
    _do(client, _job("talk"))
    os.kill(client.pid, signal.SIGKILL)
    until = time.monotonic() + 5
    while client.state != "dead" and time.monotonic() < until:
        assert client.poll() == []
        time.sleep(0.01)
    assert "killed by signal 9" in client.death


def test_that_a_native_crash_names_its_signal_and_is_logged(client, tmp_path):
    failed = _do(client, _job("crash"))[-2]
    assert "killed by signal 11" in failed.message
    assert "Segmentation fault" in (tmp_path / "engine.log").read_text()


def test_that_an_engine_which_cannot_start_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("INFERENCE_PLAYGROUND_CACHE", str(tmp_path))
    client = EngineClient(Factories("tests.app.engines:CannotStart"))
    failed = _do(client, _job("talk"))[-2]
    assert "exit code 1" in failed.message
    assert "no torch here" in (tmp_path / "engine.log").read_text()
    client.close()


def test_that_a_suspended_engine_blocks_nobody(client):
    _do(client, _job("talk"))
    os.kill(client.pid, signal.SIGSTOP)
    before = time.monotonic()
    client.submit(RunJob((RunRequest(None, "x" * 2**21),)))
    client.stop()
    client.poll()
    assert time.monotonic() - before < 0.1
    assert "did not stop" in [envelope.event for envelope in _poll_until(client, _ended, 4)][-2].message


def test_that_no_engine_outlives_the_window():
    script = (
        "import time\nfrom app.engine_client import EngineClient\n"
        "from tests.app.test_engine_client import ODD, _job, _poll_until, _running\n"
        "if __name__ == '__main__':\n"
        "    client = EngineClient(ODD); client.submit(_job('hang')); _poll_until(client, _running)\n"
        "    print(client.pid, flush=True); time.sleep(60)\n"
    )
    window = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    engine = psutil.Process(int(window.stdout.readline()))
    window.kill()
    window.wait()
    engine.wait(timeout=3)


def test_that_the_client_needs_neither_torch_nor_qt():
    script = "import sys, app.engine_client; assert not {'torch', 'PySide6', 'transformers'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_that_a_measurement_tells_of_progress_and_stops(client):
    client.submit(MeasureJob((QualityRequest(RunConfig()), QualityRequest(RunConfig()))))
    _poll_until(client, _measuring)
    client.stop()
    assert _poll_until(client, _ended)[-1].event == JobEnded(stopped=True)
    assert client.state == "idle"
