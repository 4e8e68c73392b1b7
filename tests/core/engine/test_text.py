"""Streaming text: whole characters, stop strings across tokens."""

from hypothesis import given
from hypothesis import strategies as st

from core.engine.text import TextStream


def as_bytes(token: int) -> bytes:
    """A vocabulary whose tokens are bytes."""
    return bytes([token])


def streamed(text: str, stop: str = "") -> tuple[list[str], TextStream]:
    stream = TextStream(as_bytes, stop)
    parts = [stream.feed(byte) for byte in text.encode() if not stream.stopped]
    return [*parts, stream.finish()], stream


def test_that_a_character_of_several_tokens_comes_whole() -> None:
    parts, _ = streamed("a€b")
    assert parts == ["a", "", "", "€", "b", ""]


def test_that_an_unfinished_character_is_not_shown() -> None:
    stream = TextStream(as_bytes, "")
    assert "".join(stream.feed(byte) for byte in "a€".encode()[:-1]) + stream.finish() == "a"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_that_no_text_is_lost_or_doubled(text: str) -> None:
    parts, stream = streamed(text)
    assert "".join(parts) == stream.text == text


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_that_text_ends_before_the_first_stop_string(text: str, stops: list[str]) -> None:
    _, stream = streamed(text, "|".join(stops))
    ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
    if not ends:
        assert (stream.text, stream.stopped) == (text, False)
        return
    read = text[: min(ends)]
    assert stream.stopped
    assert stream.text == read[: min(read.index(stop) for stop in stops if stop in read)]


def test_that_the_start_of_a_stop_string_is_held_back_and_given_when_it_was_none() -> None:
    stream = TextStream(as_bytes, "END")
    assert [stream.feed(byte) for byte in b"xENy"] == ["x", "", "", "ENy"]
    assert [stream.feed(byte) for byte in b"EN"] == ["", ""]
    assert stream.finish() == "EN"
