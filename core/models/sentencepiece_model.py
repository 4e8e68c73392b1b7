"""Reads a SentencePiece `tokenizer.model`: a protocol-buffer message, of which six fields matter."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from core.errors import BadInput
from core.models.sentence_pieces import NORMAL, UNKNOWN, Pieces

# Field numbers of ModelProto and of the messages in it (sentencepiece_model.proto).
_PIECE, _TRAINER, _NORMALIZER = 1, 2, 3
_TEXT, _SCORE, _TYPE = 1, 2, 3
_MODEL_TYPE, _ADD_DUMMY_PREFIX = 3, 3
_BPE = 2

Value = int | float | bytes


def read_pieces(path: Path, by_place: bool) -> Pieces:
    """The vocabulary of a BPE model. by_place: merge in the order of the vocabulary instead of by score.

    Raises BadInput for a damaged file and for models of another kind.
    """
    try:
        message = list(_fields(path.read_bytes()))
        settings = {number: dict(_fields(_bytes(part))) for number, part in message if number in (_TRAINER, _NORMALIZER)}
        pieces = [dict(_fields(_bytes(part))) for number, part in message if number == _PIECE]
        tokens = [_bytes(piece[_TEXT]).decode() for piece in pieces]
        scores = [float(piece.get(_SCORE, 0.0)) for piece in pieces]
        types = [int(piece.get(_TYPE, NORMAL)) for piece in pieces]
    except (ValueError, KeyError, TypeError, IndexError, struct.error):
        raise BadInput(f"{path}: not a whole SentencePiece model") from None
    if settings.get(_TRAINER, {}).get(_MODEL_TYPE) != _BPE or not tokens:
        raise BadInput(f"{path}: not a SentencePiece model of the BPE kind; save the tokenizer as tokenizer.json")
    return Pieces(
        tokens,
        range(len(tokens)) if by_place else [-score for score in scores],
        np.array(types),
        types.index(UNKNOWN) if UNKNOWN in types else None,
        bool(settings.get(_NORMALIZER, {}).get(_ADD_DUMMY_PREFIX, 1)),
    )


def _bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError
    return value


def _fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Field numbers and values. Raises ValueError, IndexError or struct.error where the message is damaged."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value: Value
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
            case 1:
                (value,), at = struct.unpack_from("<d", message, at), at + 8
            case 2:
                length, at = _varint(message, at)
                value, at = message[at : at + length], at + length
                if len(value) != length:
                    raise ValueError
            case 5:
                (value,), at = struct.unpack_from("<f", message, at), at + 4
            case _:
                raise ValueError
        yield tag >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, and the place after it."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError
