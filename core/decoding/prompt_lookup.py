"""Drafts what followed the same n-gram earlier in the text (Saxena 2023, prompt lookup decoding)."""

from __future__ import annotations

from collections.abc import Sequence

from core.decoding.table import PromptLookupOptions

NGram = tuple[int, ...]


class PromptLookup:
    """Longest n-gram first, most recent earlier occurrence.

    An index from each n-gram to the place after its last occurrence grows with the text, so that a step costs the new
    tokens alone, whatever the length.
    """

    def __init__(self, options: PromptLookupOptions) -> None:
        self.draft_tokens = options.draft_tokens
        self.ngram = options.ngram
        self._after: dict[NGram, int] = {}
        self._indexed = 0  # n-grams that end before this place are in the index

    def propose(self, tokens: Sequence[int], limit: int) -> list[int]:
        """What followed the last n tokens before, at most `limit` of it; nothing when they are new."""
        self._index(tokens)
        count = min(limit, self.draft_tokens)
        for n in range(min(self.ngram, len(tokens) - 1), 0, -1):
            start = self._after.get(tuple(tokens[-n:]))
            if start is not None:
                return list(tokens[start : start + count])
        return []

    def _index(self, tokens: Sequence[int]) -> None:
        """Add the n-grams that something follows: all but those that end at the last token."""
        for end in range(max(self._indexed, 1), len(tokens)):
            for n in range(1, min(self.ngram, end) + 1):
                self._after[tuple(tokens[end - n : end])] = end
        self._indexed = len(tokens)
