"""The history: every finished run is kept, found and opened again."""

import threading

import pytest

from app.history import History
from app.keeper import Keeper
from core.errors import BadInput, RunFailed
from core.quality.figures import figures
from core.quality.results import NeedleMeasured, QualityMeasured
from core.trace import Trace, record
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


def test_that_an_entry_gains_what_is_measured_after_its_run(history):
    whole = make_trace()
    trace = record(event for event in whole.events() if not isinstance(event, QualityMeasured | NeedleMeasured))
    number = history.add(trace)
    assert "perplexity" not in history.search()[0].metrics
    for event in (*whole.quality, *whole.needles):
        trace.add(event)
    history.update(number, trace)
    (entry,) = history.search()
    found = figures(whole.quality[-1].segments)
    assert entry.metrics["perplexity"] == found["perplexity"]
    assert entry.metrics["mean_kl"] == found["mean_kl"]
    assert entry.metrics["needle_recall"] == whole.needles[-1].recall.mean()
    assert entry.metrics["ttft_ms"] == whole.finished.metrics["ttft_ms"]
    assert history.open(number).quality == whole.quality
    assert len(list(entry.trace.parent.iterdir())) == 1
    history.delete(number)
    history.update(number, trace)
    assert history.search() == []
    assert not entry.trace.exists()


def test_that_a_run_that_was_measured_before_is_kept_with_its_quality(history):
    history.add(make_trace())
    assert history.search()[0].metrics["same_top1"] is not None


def test_that_the_keeper_adds_measurements_to_runs_it_has_kept_or_opened_and_to_no_others(history):
    keeper, kept, stranger = Keeper(history), make_trace(), make_trace()
    keeper.keep(kept)
    kept.add(kept.quality[0])
    keeper.measured(kept)
    keeper.measured(stranger)
    keeper.close()
    assert keeper.done() == (2, [])
    (entry,) = history.search()
    assert len(history.open(entry.id).quality) == len(kept.quality)
    keeper = Keeper(history)
    opened = keeper.open(entry.id)
    opened.add(opened.quality[0])
    keeper.measured(opened)
    keeper.close()
    assert len(history.open(entry.id).quality) == len(kept.quality) + 1
    del opened
    assert not keeper._kept, "a trace that is gone is forgotten"


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
