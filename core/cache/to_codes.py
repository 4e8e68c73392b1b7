"""Keys and values as coded blocks: numbers of a few bits with a scale and a zero for each group.

A number is code · scale + zero with codes from 0 to 2^bits − 1, scale and zero in float16. A group of keys is a channel of a
block, a group of values some channels of a token. With few bits, values take the one of some shares of their range, around
its middle, that has the least squared error, and numbers outside become its ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, reduce
from typing import TYPE_CHECKING

import torch

from core.cache.from_codes import WORDS, each_block, name_of, value_scales, words_at
from core.compiled.emitter import F16, F32, LANES, VF32, VI32, Emitter, Value, constant, lanes_of, number
from core.compiled.numbers import of_lanes, read
from core.compiled.runs import first_lanes, only_first, runs, widened
from core.compiled.tiles import transposed

if TYPE_CHECKING:
    from core.cache.coded import CodedForm

ENCODER_ARGUMENTS = 8
_NARROWED = (1.0, 0.9, 0.8, 0.7)  # of the range of a token's values: outliers there matter less than all the others
_SMALLEST = torch.finfo(torch.float32).tiny


@cache
def encoder(form: CodedForm, dtype: torch.dtype) -> int:
    """The address of the compiled codes of keys and values stored as `dtype`.

    Called with: addresses of the first token in keys [G, slots, D] and in values, and slots; the address of where its record
    goes and the number of records from one head to the next; blocks a head, and the first and last item. Item i is block i mod
    blocks of head ⌊i / blocks⌋.
    """
    e = Emitter(f"encode_{name_of(form)}_{dtype}".replace(".", "_"), "keys values slots records capacity blocks first last")

    def block(record: Value, keys: Value, values: Value) -> None:
        _encode_keys(e, form, keys, record, dtype)
        if form.sizes[1]:
            _scale_values(e, form, values, record, dtype)
            _encode_values(e, form, values, record, dtype)

    each_block(e, form, dtype, block)
    return e.finish()


def _encode_keys(e: Emitter, form: CodedForm, keys: Value, record: Value, dtype: torch.dtype) -> None:
    """Sixteen channels at a time: their scales, then sixteen tokens after sixteen as words with a token in each lane."""
    size, (_, steps_at, zeros_at, *_) = form.sizes[0], form.places

    def channels(channel: Value, count: int) -> None:
        def numbers(token: Value) -> Value:
            place = e.b.add(e.b.mul(token, number(size)), channel)
            return widened(e, read(e, e.at(keys, place, dtype.itemsize), dtype, count), count)

        def wider(token: Value, ends: list[Value]) -> list[Value]:
            x = numbers(token)
            return [e.lowest(x, ends[0]), e.highest(x, ends[1])]

        first = numbers(number(0))
        low, high = e.loop(number(1), number(form.group), [first, first], wider)
        scale = _scale(e, low, high, form.bits)
        for part, at in zip(scale, (steps_at, zeros_at), strict=True):
            e.store(first_lanes(e, part, count), e.at(record, channel, 2, at), 2)
        step, zero = _wide(e, scale)

        def square(token: Value, many: int) -> None:
            rows = [_codes(e, numbers(e.b.add(token, number(i))), step, zero, form.bits) for i in range(many)]
            columns = transposed(e, [*rows, *[constant(VI32, 0)] * (LANES - many)])[:count]
            _store_words(e, form, columns, words_at(e, form, record, 0, token, channel))

        runs(e, form.group, LANES, square)

    runs(e, size, LANES, channels)


def _scale_values(e: Emitter, form: CodedForm, values: Value, record: Value, dtype: torch.dtype) -> None:
    """Write the scale of every group: of the shares of its range, the one with the least error."""
    shares = (1.0,) if form.bits == 8 else _NARROWED

    def group(token: Value, share: Value) -> list[Value]:
        place = e.b.add(e.b.mul(token, number(form.sizes[1])), e.b.mul(share, number(form.channels)))
        parts = _parts(e, form.channels, e.at(values, place, dtype.itemsize), dtype)
        low, high = (e.joined(reduce(join, [x for x, _ in parts]), join) for join in (e.lowest, e.highest))
        best, *others = [_narrowed(e, low, high, kept, form.bits) for kept in shares]
        least = _error(e, parts, best, form.bits) if others else None
        for other in others:
            error = _error(e, parts, other, form.bits)
            less = e.b.fcmp_ordered("<", error, least)
            best = e.b.select(less, other[0], best[0]), e.b.select(less, other[1], best[1])
            least = e.b.select(less, error, least)
        for part, at in zip(best, form.places[4:], strict=False):
            e.store(part, e.at(record, e.b.add(e.b.mul(share, number(form.group)), token), 2, at), 2)
        return []

    many = number(form.sizes[1] // form.channels)

    def of_token(token: Value, _: list[Value]) -> list[Value]:
        e.loop(number(0), many, [], lambda share, _: group(token, share))
        return []

    e.loop(number(0), number(form.group), [], of_token)


def _encode_values(e: Emitter, form: CodedForm, values: Value, record: Value, dtype: torch.dtype) -> None:
    """A unit of tokens of sixteen channels at a time, with a channel in each lane."""
    size = form.sizes[1]

    def unit(channel: int, first: Value, tokens: int) -> None:
        count, columns = min(LANES, size - channel), []
        for i in range(tokens):
            token = e.b.add(first, number(i))
            place = e.b.add(e.b.mul(token, number(size)), number(channel))
            x = widened(e, read(e, e.at(values, place, dtype.itemsize), dtype, count), count)
            codes = _codes(e, x, *value_scales(e, form, record, channel, token), form.bits)
            columns.append(only_first(e, codes, count))
        _store_words(e, form, columns, words_at(e, form, record, 1, number(channel), first))

    for channel in range(0, size, LANES):
        runs(e, form.group, form.codes.unit, lambda token, tokens, at=channel: unit(at, token, tokens))  # type: ignore[misc]


def _parts(e: Emitter, count: int, address: Value, dtype: torch.dtype) -> list[tuple[Value, int]]:
    """So many numbers in vectors of sixteen, and how many of each are there."""
    sizes = [(first, min(LANES, count - first)) for first in range(0, count, LANES)]
    return [(widened(e, read(e, e.at(address, at, dtype.itemsize), dtype, many), many), many) for at, many in sizes]


def _narrowed(e: Emitter, low: Value, high: Value, share: float, bits: int) -> tuple[Value, Value]:
    """The scale of that share of the range, around its middle."""
    cut = e.b.fmul(e.b.fmul(e.b.fsub(high, low), constant(F32, 1 - share)), constant(F32, 0.5))
    return _scale(e, e.b.fadd(low, cut), e.b.fsub(high, cut), bits)


def _scale(e: Emitter, low: Value, high: Value, bits: int) -> tuple[Value, Value]:
    """Step and zero in float16."""
    step, half = e.b.fdiv(e.b.fsub(high, low), constant(low.type, 2.0**bits - 1)), of_lanes(F16, lanes_of(low))
    return e.b.fptrunc(step, half), e.b.fptrunc(low, half)


def _wide(e: Emitter, scale: Sequence[Value]) -> list[Value]:
    return [e.b.fpext(part, of_lanes(F32, lanes_of(part))) for part in scale]


def _nearest(e: Emitter, x: Value, step: Value, zero: Value, bits: int) -> Value:
    """Codes of sixteen numbers, as float32."""
    steps = e.b.fdiv(e.b.fsub(x, zero), e.highest(step, constant(VF32, _SMALLEST)))
    return e.lowest(e.highest(e.unary("rint", steps), constant(VF32, 0.0)), constant(VF32, 2.0**bits - 1))


def _codes(e: Emitter, x: Value, step: Value, zero: Value, bits: int) -> Value:
    return e.b.fptosi(_nearest(e, x, step, zero, bits), VI32)


def _error(e: Emitter, parts: list[tuple[Value, int]], scale: Sequence[Value], bits: int) -> Value:
    """The squared error of the codes of a group."""
    step, zero = (e.spread(part) for part in _wide(e, scale))
    total = constant(VF32, 0.0)
    for x, count in parts:
        away = e.b.fsub(e.fma(_nearest(e, x, step, zero, bits), step, zero), x)
        total = e.fma(away, only_first(e, away, count), total)
    return e.joined(total, e.b.fadd)


def _store_words(e: Emitter, form: CodedForm, columns: list[Value], address: Value) -> None:
    """Codes of neighbouring columns as words, those of a unit in one; see `pack` in core/weights/kernel.py."""
    length = form.codes.unit
    for index, unit in enumerate(columns[first : first + length] for first in range(0, len(columns), length)):
        places = [i % 2 * 16 + i // 2 * form.bits for i in range(len(unit))]
        shifted = [e.b.shl(column, constant(VI32, place)) for column, place in zip(unit, places, strict=True)]
        e.store(reduce(e.b.or_, shifted), e.at(address, index, WORDS), 4)
