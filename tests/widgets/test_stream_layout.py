"""Lines of tokens: words stay whole, newlines break, and nothing is laid out twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from widgets.stream_layout import StreamLayout


def laid_out(texts: list[str], width: float = 200) -> StreamLayout:
    """A layout in which every character is 10 wide."""
    layout = StreamLayout(lambda text: 10.0 * len(text), width)
    for text in texts:
        layout.append(text)
    return layout


def shown(layout: StreamLayout) -> list[str]:
    return ["".join(fragment.text for fragment in line) for line in layout.lines]


def test_that_a_word_made_of_several_tokens_moves_to_the_next_line_as_a_whole() -> None:
    layout = laid_out(["Hello", " wonderful", " wor", "ld", "ization"])
    assert shown(layout) == ["Hello wonderful ", "worldization"]
    assert layout.first_line == [0, 0, 0, 1, 1]


def test_that_a_newline_token_ends_its_line() -> None:
    assert shown(laid_out(["a", "\n\n", "b"])) == ["a\n", "\n", "b"]


def test_that_a_word_wider_than_the_line_goes_on_over_several() -> None:
    layout = laid_out(["x" * 45])
    assert [len(line) for line in shown(layout)] == [20, 20, 5]


def test_that_ideographs_break_anywhere() -> None:
    assert shown(laid_out(["日本語" * 10])) == ["日本語日本語日本語日本語日本語日本語日本", "語日本語日本語日本語"[:10]]


def test_that_the_item_under_a_point_is_found_and_none_beside_the_text() -> None:
    layout = laid_out(["one", " two", " three", "\n", "four"])
    assert layout.find(0, 45) == 1
    assert layout.find(1, 5) == 4
    assert layout.find(1, 150) is None
    assert layout.nearest(1, 150) == 4


@given(st.lists(st.text(alphabet="ab \n日", min_size=1, max_size=8), max_size=60), st.integers(40, 300))
def test_that_all_text_is_shown_once_in_order_within_the_width(texts: list[str], width: int) -> None:
    layout = laid_out(texts, width)
    assert "".join(shown(layout)) == "".join(texts)
    for line in layout.lines:
        assert all(f.x + f.width <= layout.width for f in line if not f.text.isspace())
        assert [f.item for f in line] == sorted(f.item for f in line)
    for item, text in enumerate(texts):
        parts = list(layout.fragments_of(item))
        assert "".join(fragment.text for _, fragment in parts) == text
        assert parts[0][0] == layout.first_line[item]


@pytest.mark.parametrize("text", ["", "\t"])
def test_that_an_item_without_visible_text_still_has_a_place(text: str) -> None:
    layout = laid_out(["a", text, "b"])
    assert len(layout.first_line) == 3
