"""Drafting by lookup: what it finds, and that it stays fast."""

from time import perf_counter

from hypothesis import given
from hypothesis import strategies as st

from core.decoding.prompt_lookup import PromptLookup
from core.decoding.table import PromptLookupOptions


def scan(tokens: list[int], ngram: int, count: int) -> list[int]:
    """The same rule by scanning backwards: longest n-gram first, most recent earlier occurrence."""
    for n in range(min(ngram, len(tokens) - 1), 0, -1):
        for start in range(len(tokens) - n - 1, -1, -1):
            if tokens[start : start + n] == tokens[-n:]:
                return tokens[start + n : start + n + count]
    return []


def test_that_the_most_recent_occurrence_of_the_longest_ngram_is_drafted() -> None:
    drafter = PromptLookup(PromptLookupOptions(draft_tokens=2, ngram=2))
    assert drafter.propose([1, 2, 3, 1, 2, 4, 5, 1, 2], 10) == [4, 5]


def test_that_new_text_drafts_nothing() -> None:
    assert PromptLookup(PromptLookupOptions()).propose([1, 2, 3], 4) == []
    assert PromptLookup(PromptLookupOptions()).propose([1], 4) == []


def test_that_the_limit_bounds_the_draft() -> None:
    drafter = PromptLookup(PromptLookupOptions(draft_tokens=8))
    assert drafter.propose([1, 2, 3, 4, 1], 1) == [2]
    assert drafter.propose([1, 2, 3, 4, 1], 0) == []


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 4), st.integers(1, 5))
def test_that_the_growing_index_finds_what_a_scan_finds(tokens: list[int], ngram: int, count: int) -> None:
    drafter = PromptLookup(PromptLookupOptions(draft_tokens=count, ngram=ngram))
    for end in range(1, len(tokens) + 1):
        assert drafter.propose(tokens[:end], 64) == scan(tokens[:end], ngram, count)


def test_that_a_step_at_8000_tokens_takes_well_under_a_millisecond() -> None:
    drafter, tokens = PromptLookup(PromptLookupOptions(ngram=16)), [n * 7919 % 5000 for n in range(8000)]
    drafter.propose(tokens, 4)
    began = perf_counter()
    for token in range(100):
        tokens.append(token)
        drafter.propose(tokens, 4)
    assert (perf_counter() - began) / 100 < 0.001
