"""Tokenizers of SentencePiece's BPE kind, built from their pieces and scores alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers

SPACE = "▁"  # how SentencePiece vocabularies write a space
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


@dataclass(frozen=True)
class Pieces:
    """A vocabulary. ranks: smaller merges first. types: of each piece, as SentencePiece numbers them.

    adds_space: a space is put before every stretch of text between special tokens.
    """

    tokens: Sequence[str]
    ranks: Sequence[float]
    types: np.ndarray
    unknown: int | None
    adds_space: bool

    def backend(self) -> Backend:
        """The bare tokenizer, without special tokens."""
        vocabulary = {token: index for index, token in enumerate(self.tokens)}
        unknown = None if self.unknown is None else self.tokens[self.unknown]
        backend = Backend(models.BPE(vocabulary, self._merges(), byte_fallback=True, fuse_unk=True, unk_token=unknown))
        to_marks = normalizers.Replace(" ", SPACE)
        # Always one more space, even before a space: as SentencePiece itself does, and unlike the Metaspace pre-tokenizer.
        backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), to_marks]) if self.adds_space else to_marks
        steps: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
        backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if self.adds_space else steps)
        return backend

    def _merges(self) -> list[tuple[str, str]]:
        """Every way to put a piece together from two others, best piece first, as SentencePiece would merge."""
        plain = np.isin(self.types, (NORMAL, USER_DEFINED, UNUSED))
        vocabulary = {token for token, is_plain in zip(self.tokens, plain, strict=True) if is_plain}
        found = [
            (self.ranks[index], -cut, token[:cut], token[cut:])
            for index, token in enumerate(self.tokens)
            if plain[index]
            for cut in range(1, len(token))
            if token[:cut] in vocabulary and token[cut:] in vocabulary
        ]
        return [(left, right) for _, _, left, right in sorted(found)]
