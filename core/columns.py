"""Dataclasses as columns: a list of them becomes JSON plus one blob of numbers, led by their type hints, and back.

Numbers stand in the blob, [n] a column; text stands in the JSON. No code is stored and none is run on reading.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

from core.config import RunConfig, from_dict

_ALIGN = 16
_DTYPES = frozenset(("<f2", "<f4", "<f8", "<i2", "<i4", "<i8", "<u2", "<u4", "<u8", "|i1", "|u1", "|b1"))


class Fault(ValueError):
    """What was read is not what was written; the message says where it differs."""


class Blob:
    """Arrays laid end to end. `parts` are its bytes, in order."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, array: np.ndarray) -> dict[str, Any]:
        """Append an array; the returned reference finds it again."""
        if array.dtype.str not in _DTYPES:
            raise TypeError(f"arrays of {array.dtype} are not stored")
        gap = -self.size % _ALIGN
        reference = {"dtype": array.dtype.str, "offset": self.size + gap, "shape": list(array.shape)}
        self.parts += [bytes(gap), np.ascontiguousarray(array).tobytes()]
        self.size += gap + array.nbytes
        return reference


class Stored:
    """The blob as read back: arrays are read-only views of it."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = data

    def get(self, reference: Any) -> np.ndarray:
        """The referenced array; Fault where the reference does not fit the blob."""
        dtype, offset, shape = (_entry(reference, key) for key in ("dtype", "offset", "shape"))
        if dtype not in _DTYPES or not isinstance(shape, list) or not all(_is_count(n) for n in [offset, *shape]):
            raise Fault("an array reference is not a type, an offset and a shape")
        count = math.prod(shape)
        if offset + count * np.dtype(dtype).itemsize > len(self._data):
            raise Fault(f"an array of shape {shape} at {offset} reaches past the {len(self._data)} bytes stored")
        return np.frombuffer(self._data, dtype, count, min(offset, max(0, len(self._data) - 1))).reshape(shape)

    def column(self, reference: Any, dtype: str, n: int) -> np.ndarray:
        """The referenced array, which must be [n] of `dtype`."""
        array = self.get(reference)
        if array.shape != (n,) or array.dtype.str != dtype:
            raise Fault(f"a column is {array.dtype} {list(array.shape)}, not {dtype} [{n}]")
        return array


def encode(hint: Any, values: Sequence[Any], blob: Blob) -> Any:
    """JSON for a column of `values`, each of type `hint`; numbers and arrays go to `blob`."""
    if hint in _NUMBERS:
        return blob.add(_numbers(values, hint))
    if hint is RunConfig:
        return [value.to_dict() for value in values]
    if hint is np.ndarray:
        return _encode_arrays(values, blob)
    if dataclasses.is_dataclass(hint):
        columns = hints(cast(type, hint)).items()
        return {name: encode(kind, [getattr(value, name) for value in values], blob) for name, kind in columns}
    inner = _inner(hint)
    if _is_optional(hint):
        return _encode_some(inner, [value is not None for value in values], [v for v in values if v is not None], blob)
    if get_origin(hint) is tuple:
        counts = blob.add(_numbers([len(value) for value in values], int))
        return {"counts": counts, "items": encode(inner, [item for value in values for item in value], blob)}
    if get_origin(hint) is dict:
        names = dict.fromkeys(name for value in values for name in value)
        return {n: _encode_some(inner, [n in v for v in values], [v[n] for v in values if n in v], blob) for n in names}
    return list(values)  # text, literals, booleans and plain JSON


def decode(hint: Any, data: Any, n: int, blob: Stored) -> list[Any]:
    """The `n` values that `encode` made `data` of. Raises Fault (or BadInput inside a configuration)."""
    if hint in _NUMBERS:
        return list(blob.column(data, _NUMBERS[hint], n).tolist())
    if hint is np.ndarray:
        return _decode_arrays(data, n, blob)
    if dataclasses.is_dataclass(hint) and hint is not RunConfig:
        return _decode_rows(hint, data, n, blob)
    if _is_optional(hint):
        return _decode_optional(hint, data, n, blob)
    if get_origin(hint) is tuple:
        return _decode_tuples(hint, data, n, blob)
    if get_origin(hint) is dict:
        return _decode_dicts(hint, data, n, blob)
    return _decode_plain(hint, data, n)


_NUMBERS = {int: "<i8", float: "<f8"}


@cache
def hints(kind: type) -> dict[str, Any]:
    """Field names of a dataclass, in order, and their types."""
    known = get_type_hints(kind)
    return {field.name: known[field.name] for field in dataclasses.fields(kind)}


def _is_optional(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _inner(hint: Any) -> Any:
    """X of `X | None`, `tuple[X, ...]` and `dict[str, X]`."""
    arguments = [kind for kind in get_args(hint) if kind not in (type(None), Ellipsis)]
    return arguments[-1] if arguments else None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


def _entry(data: Any, key: str) -> Any:
    if not isinstance(data, dict) or key not in data:
        raise Fault(f"an object with the field {key!r} is missing")
    return data[key]


def _numbers(values: Sequence[Any], kind: type) -> np.ndarray:
    if kind is int and not all(isinstance(value, int) for value in values):
        raise TypeError(f"{next(v for v in values if not isinstance(v, int))!r} is not a whole number")
    return np.array(values, dtype=_NUMBERS[kind])


def _encode_some(hint: Any, has: list[bool], present: list[Any], blob: Blob) -> dict[str, Any]:
    return {"has": blob.add(np.array(has, dtype=np.uint8)), "values": encode(hint, present, blob)}


def _decode_some(hint: Any, data: Any, n: int, blob: Stored) -> tuple[list[int], list[Any]]:
    """Indices of the rows that have a value, and those values."""
    indices = np.flatnonzero(blob.column(_entry(data, "has"), "|u1", n)).tolist()
    return indices, decode(hint, _entry(data, "values"), len(indices), blob)


def _decode_optional(hint: Any, data: Any, n: int, blob: Stored) -> list[Any]:
    rows: list[Any] = [None] * n
    for index, value in zip(*_decode_some(_inner(hint), data, n, blob), strict=True):
        rows[index] = value
    return rows


def _decode_dicts(hint: Any, data: Any, n: int, blob: Stored) -> list[Any]:
    if not isinstance(data, dict):
        raise Fault("an object of named columns is missing")
    rows: list[dict[str, Any]] = [{} for _ in range(n)]
    for name, column in data.items():
        for index, value in zip(*_decode_some(_inner(hint), column, n, blob), strict=True):
            rows[index][name] = value
    return rows


def _decode_tuples(hint: Any, data: Any, n: int, blob: Stored) -> list[Any]:
    counts = blob.column(_entry(data, "counts"), "<i8", n)
    total = sum(counts.tolist())
    if counts.size and (counts.min() < 0 or total >= 2**48):
        raise Fault("a count is out of range")
    items = iter(decode(_inner(hint), _entry(data, "items"), total, blob))
    return [tuple(islice(items, count)) for count in counts.tolist()]


def _decode_rows(kind: Any, data: Any, n: int, blob: Stored) -> list[Any]:
    """Rows of a dataclass; a field the file does not have takes its default."""
    if not isinstance(data, dict) or not data.keys() <= hints(kind).keys():
        raise Fault(f"the fields of {kind.__name__} are not {', '.join(hints(kind))}")
    columns = []
    for field in dataclasses.fields(kind):
        if field.name in data or (default := _default(field)) is None:
            columns.append(decode(hints(kind)[field.name], _entry(data, field.name), n, blob))
        else:
            columns.append([default() for _ in range(n)])
    return list(map(kind, *columns))


def _default(field: dataclasses.Field[Any]) -> Callable[[], Any] | None:
    """What makes the field's default; None where it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    return None if field.default is dataclasses.MISSING else lambda: field.default


def _encode_arrays(values: Sequence[np.ndarray], blob: Blob) -> dict[str, Any]:
    if len({(value.dtype.str, value.shape) for value in values}) == 1:
        return {"stack": blob.add(np.stack(values))}
    return {"each": [blob.add(value) for value in values]}


def _decode_arrays(data: Any, n: int, blob: Stored) -> list[Any]:
    if isinstance(data, dict) and "stack" in data:
        stack = blob.get(data["stack"])
        arrays = list(stack) if stack.ndim > 1 and len(stack) == n else []
    else:
        references = _entry(data, "each")
        arrays = [blob.get(reference) for reference in references] if isinstance(references, list) else []
    if len(arrays) != n:
        raise Fault(f"{n} arrays were expected")
    return arrays


def _decode_plain(hint: Any, data: Any, n: int) -> list[Any]:
    if not isinstance(data, list) or len(data) != n:
        raise Fault(f"a list of {n} was expected")
    if hint is RunConfig:
        return [from_dict(value) for value in data]
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    kind = str if choices else hint
    if kind is not Any and not (set(map(type, data)) <= {kind} and (not choices or set(data) <= set(choices))):
        raise Fault(f"a list of {', '.join(choices) or kind.__name__} was expected")
    return data
