"""The session: what is open, and its file."""

import json

import pytest

from app.session import Column, Session, read
from core.config import RunConfig
from core.errors import BadInput
from tests.traces import make_trace


def _two_columns() -> Session:
    second = RunConfig().set(["attention.name=window", "attention.window=16"])
    return Session([Column(), Column(second)], prompt="Why?", chat=False, inspect=False, repeats=3)


def test_that_a_session_file_reads_back_equal(tmp_path):
    session = _two_columns()
    session.save(tmp_path / "s.json")
    assert read(tmp_path / "s.json").to_dict() == session.to_dict()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"version": 9}, "version 1"),
        ({"promt": "x"}, "did you mean prompt"),
        ({"configs": []}, "1 to 4"),
        ({"chat": "yes"}, "chat"),
        ({"repeats": 0}, "1 to 100"),
        ({"configs": [{"weights": {"name": "rtn", "bits": 99}}]}, "weights.bits"),
    ],
)
def test_that_a_wrong_session_file_is_refused_with_its_reason(tmp_path, change, named):
    path = tmp_path / "s.json"
    path.write_text(json.dumps({**_two_columns().to_dict(), **change}))
    with pytest.raises(BadInput, match=named) as refused:
        read(path)
    assert str(path) in str(refused.value)


def test_that_a_damaged_session_file_is_refused(tmp_path):
    path = tmp_path / "s.json"
    path.write_bytes(b"\xff\x00{")
    with pytest.raises(BadInput, match="not a readable session file"):
        read(path)


def test_that_continuing_keeps_the_tokens_before_the_chosen_one():
    session = Session()
    session.show([make_trace()])
    trace = session.columns[0].trace
    position = len(trace.prompt_tokens) + 3
    request = session.continuation(0, position, 77)
    assert request.prompt_tokens == (*(token.id for token in trace.all_tokens[:position]), 77)


def test_that_continuing_past_the_end_is_refused():
    session = Session()
    session.show([make_trace()])
    with pytest.raises(BadInput):
        session.continuation(0, 10_000, 1)


def test_that_there_are_at_most_four_configurations_and_never_none():
    session = Session()
    for _ in range(3):
        session.add_column(RunConfig())
    with pytest.raises(BadInput, match="4 configurations"):
        session.add_column(RunConfig())
    for _ in range(3):
        session.remove_column(0)
    with pytest.raises(BadInput, match="last configuration"):
        session.remove_column(0)


def test_that_a_kept_run_opens_in_a_or_beside_the_others():
    session = _two_columns()
    first, second = make_trace(), make_trace(seed=1)
    session.open_run(first, beside=False)
    assert session.traces == (first, None)
    assert session.prompt == first.started.prompt
    session.open_run(second, beside=True)
    assert session.traces == (first, None, second)


def test_that_one_configuration_can_take_another_model():
    session = _two_columns()
    session.use_model("other", 1)
    assert [config.model for config in session.configs] == ["default", "other"]
