"""The history: every finished run is kept, found and opened again."""

import threading

import pytest

from app.history import History
from core.errors import BadInput, RunFailed
from core.trace import Trace
from tests.traces import make_trace


@pytest.fixture
def history(tmp_path):
    return History(tmp_path)


def test_that_a_kept_run_is_opened_as_the_same_trace(history):
    trace = make_trace()
    opened = history.open(history.add(trace))
    assert opened.text == trace.text
    assert [token.id for token in opened.tokens] == [token.id for token in trace.tokens]
    assert opened.started.config == trace.started.config


def test_that_entries_carry_what_a_list_shows(history):
    trace = make_trace()
    number = history.add(trace)
    (entry,) = history.search()
    assert (entry.id, entry.model, entry.prompt) == (number, trace.started.info.name, trace.started.prompt)
    assert entry.config == trace.started.config.to_dict()
    assert entry.metrics["tpot_ms"] == trace.finished.metrics.get("tpot_ms")
    assert entry.text == trace.finished.text
    assert entry.trace.is_file()


def test_that_the_latest_run_comes_first_and_the_list_can_be_cut(history):
    numbers = [history.add(make_trace()) for _ in range(3)]
    assert [entry.id for entry in history.search()] == numbers[::-1]
    assert [entry.id for entry in history.search(most=1)] == numbers[-1:]


def test_that_search_wants_every_word_and_takes_signs_as_they_are(history):
    trace = make_trace()
    history.add(trace)
    word = trace.started.prompt.split()[0]
    assert history.search(word.upper())
    assert history.search(f"{word} {trace.started.info.name.split()[0]}")
    assert not history.search(f"{word} zebra")
    assert not history.search("%zebra%")
    assert not history.search("___________________________________________________%")
    assert not history.search("'; DROP TABLE runs; --")


def test_that_a_deleted_run_is_gone_with_its_file(history):
    number = history.add(make_trace())
    (entry,) = history.search()
    history.delete(number)
    assert history.search() == []
    assert not entry.trace.exists()
    with pytest.raises(BadInput, match=f"no run {number}"):
        history.open(number)


def test_that_a_run_whose_file_is_gone_says_so(history):
    number = history.add(make_trace())
    (entry,) = history.search()
    entry.trace.unlink()
    with pytest.raises(BadInput, match="no such file"):
        history.open(number)


def test_that_an_unfinished_run_is_not_kept(history):
    with pytest.raises(ValueError, match="finished"):
        history.add(Trace())


def test_that_a_damaged_database_is_moved_aside_and_its_traces_stay(tmp_path):
    History(tmp_path).add(make_trace())
    for path in tmp_path.glob("history.sqlite*"):
        path.unlink()
    (tmp_path / "history.sqlite").write_bytes(b"not a database at all" * 100)
    history = History(tmp_path)
    assert "damaged" in history.notice
    assert history.search() == []
    assert len(list((tmp_path / "traces").iterdir())) == 1
    assert len(list(tmp_path.glob("history-damaged-*.sqlite"))) == 1
    assert history.add(make_trace())


def test_that_a_folder_that_cannot_be_made_says_why(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFailed, match="history cannot be kept"):
        History(tmp_path / "file" / "below")


def test_that_several_threads_may_keep_runs_at_once(history):
    threads = [threading.Thread(target=history.add, args=(make_trace(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(history.search()) == 8


def test_that_the_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("INFERENCE_PLAYGROUND_DATA", str(tmp_path / "elsewhere"))
    History().add(make_trace())
    assert (tmp_path / "elsewhere" / "history.sqlite").is_file()
