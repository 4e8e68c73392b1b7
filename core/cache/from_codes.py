"""Coded blocks as plain keys and values."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING

import torch

from core.compiled.emitter import F16, LANES, VF32, VI32, Emitter, Value, constant, number
from core.compiled.numbers import of_lanes, read, write
from core.compiled.runs import first_lanes, mixed, runs, widened
from core.compiled.tiles import transposed
from core.weights.kernel import unpacked_pairs

if TYPE_CHECKING:
    from core.cache.coded import CodedForm

EXPANDER_ARGUMENTS = 8
WORDS = 4 * LANES  # bytes of a unit of columns of sixteen rows


@cache
def expander(form: CodedForm, dtype: torch.dtype) -> int:
    """The address of the compiled numbers, float32 or bfloat16, that records stand for.

    Called with: the address of records and their number from one head to the next; addresses of where the first token goes
    in keys [G, slots, D] and in values, and slots; blocks a head, and the first and last item. Item i is block i mod blocks
    of head ⌊i / blocks⌋.
    """
    e = Emitter(f"expand_{name_of(form)}_{dtype.itemsize}", "records capacity keys values slots blocks first last")

    def block(record: Value, keys: Value, values: Value) -> None:
        _expand_keys(e, form, record, keys, dtype)
        _expand_values(e, form, record, values, dtype)

    each_block(e, form, dtype, block)
    return e.finish()


def each_block(e: Emitter, form: CodedForm, dtype: torch.dtype, body: Callable[[Value, Value, Value], None]) -> None:
    """body(record, keys, values) for the addresses of every item, in a function with the arguments of `expander`."""

    def item(index: Value, _: list[Value]) -> list[Value]:
        head, block = e.b.udiv(index, e.blocks), e.b.urem(index, e.blocks)
        record = e.at(e.records, e.b.add(e.b.mul(head, e.capacity), block), form.nbytes)
        token = e.b.add(e.b.mul(head, e.slots), e.b.mul(block, number(form.group)))
        body(record, *(e.at(at, token, size * dtype.itemsize) for at, size in zip((e.keys, e.values), form.sizes, strict=True)))
        return []

    e.loop(e.first, e.last, [], item)


def name_of(form: CodedForm) -> str:
    """Of kernels."""
    return f"{form.bits}_{form.group}_{form.sizes[0]}_{form.sizes[1]}_{form.channels}"


def _expand_keys(e: Emitter, form: CodedForm, record: Value, keys: Value, dtype: torch.dtype) -> None:
    """Sixteen tokens of sixteen channels at a time; codes come with a token in each lane."""
    size, (_, scales, zeros, *_) = form.sizes[0], form.places

    def square(token: Value, tokens: int, channel: Value, channels: int) -> None:
        codes = words_at(e, form, record, 0, token, channel)
        rows = transposed(e, _columns(e, form, codes, channels))
        scale, zero = (_halves(e, e.at(record, channel, 2, at), channels) for at in (scales, zeros))
        for i, row in enumerate(rows[:tokens]):
            place = e.b.add(e.b.mul(e.b.add(token, number(i)), number(size)), channel)
            _store(e, row, scale, zero, channels, e.at(keys, place, dtype.itemsize), dtype)

    runs(e, form.group, LANES, lambda token, tokens: runs(e, size, LANES, lambda *channel: square(token, tokens, *channel)))


def _expand_values(e: Emitter, form: CodedForm, record: Value, values: Value, dtype: torch.dtype) -> None:
    """A token of sixteen channels at a time; codes come with a channel in each lane."""
    size = form.sizes[1]

    def unit(channel: int, token: Value, tokens: int) -> None:
        channels = min(LANES, size - channel)
        codes = words_at(e, form, record, 1, number(channel), token)
        for i, column in enumerate(_columns(e, form, codes, tokens)[:tokens]):
            place = e.b.add(token, number(i))
            scale, zero = value_scales(e, form, record, channel, place)
            target = e.at(values, e.b.add(e.b.mul(place, number(size)), number(channel)), dtype.itemsize)
            _store(e, column, scale, zero, channels, target, dtype)

    for channel in range(0, size, LANES):
        runs(e, form.group, form.codes.unit, lambda token, tokens, at=channel: unit(at, token, tokens))  # type: ignore[misc]


def words_at(e: Emitter, form: CodedForm, record: Value, part: int, row: Value, column: Value) -> Value:
    """The address of the codes of keys (part 0) or values (part 1) of sixteen rows from a unit of columns on."""
    units = form.matrices[part][1] // form.codes.unit
    block, unit = e.b.udiv(row, number(LANES)), e.b.udiv(column, number(form.codes.unit))
    return e.at(record, e.b.add(e.b.mul(block, number(units)), unit), WORDS, form.places[3 * part])


def value_scales(e: Emitter, form: CodedForm, record: Value, channel: int, token: Value) -> tuple[Value, Value]:
    """Scales and zeros of a token's sixteen channels from `channel` on."""
    lanes = range(min(LANES, form.sizes[1] - channel))
    shares = [(share, list(run)) for share, run in groupby(lanes, lambda lane: (channel + lane) // form.channels)]

    def of(place: int) -> Value:
        parts = []
        for share, run in shares:
            at = e.at(record, e.b.add(token, number(share * form.group)), 2, place)
            parts.append((range(run[0], run[-1] + 1), e.spread(read(e, at, torch.float16))))
        return mixed(e, parts)

    return of(form.places[4]), of(form.places[5])


def _columns(e: Emitter, form: CodedForm, codes: Value, count: int) -> list[Value]:
    """Codes of sixteen columns over sixteen rows, of which `count` are there."""
    columns = []
    for unit in range(-(-count // form.codes.unit)):
        for pair in unpacked_pairs(e, form.codes, e.b.add(codes, number(WORDS * unit))):
            words = e.b.bitcast(pair, VI32)
            columns += [e.b.and_(words, constant(VI32, 0xFFFF)), e.b.lshr(words, constant(VI32, 16))]
    return [*columns, *[constant(VI32, 0)] * (LANES - len(columns))]


def _halves(e: Emitter, address: Value, count: int) -> Value:
    """Sixteen float16 numbers as float32, of which `count` are there."""
    return widened(e, e.b.fpext(e.load(address, of_lanes(F16, count), 2), of_lanes(VF32.element, count)), count)


def _store(e: Emitter, codes: Value, scale: Value, zero: Value, count: int, address: Value, dtype: torch.dtype) -> None:
    write(e, first_lanes(e, e.fma(e.b.sitofp(codes, VF32), scale, zero), count), address, dtype)
