"""What was measured as figures: speeds, utilisations, their spread over the rounds, and ratios of ours to theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from core.bench.child import Answer
from core.bench.elsewhere import QUIET
from core.bench.plan import Measure
from core.bench.run import Measured, Record
from core.compare import Spread, spread
from core.models.info import ModelInfo

Values = list[float | None]  # one for each round


@dataclass(frozen=True)
class Metric:
    """name: in JSON. more: whether more is better."""

    name: str
    label: str
    unit: str
    definition: str
    more: bool = True


DECODE = Metric("decode_tokens_per_s", "decode", "tok/s", "greedy steps of one token, over their time")
PREFILL = Metric(
    "prefill_tokens_per_s", "prefill", "tok/s", "prompt tokens, over the time to the first token from an empty cache"
)
LOAD = Metric("load_s", "load again", "s", "loading in a process that has loaded it before", more=False)
FIRST = Metric("first_load_s", "first load", "s", "the first load of a process, imports apart", more=False)
ROWS = Metric(
    "rows_ratio", "5 rows over 1", "", "time of a pass of 5 tokens over that of 1, all logits, 128 tokens held", more=False
)
PEAK = Metric(
    "peak_memory_bytes", "peak memory", "B", "highest resident memory through a load, a prefill of 2,048 and steps", more=False
)
OWN = Metric("own_memory_bytes", "less imports", "B", "the same, less what was resident after the imports", more=False)
MBU = Metric("mbu", "MBU", "", "bytes of weights, keys and values that a step reads, over its time and the measured bandwidth")
MFU = Metric("mfu", "MFU of prefill", "", "operations of products and attention, over time and the bfloat16 peak")
MFU32 = Metric("mfu_float32", "MFU of prefill, float32", "", "the same over the float32 peak")


@dataclass(frozen=True)
class Row:
    """One metric, at one context, of every engine. context: 0 where the metric has none.

    A round that other programs disturbed is None. disturbed: engines of which every round was: there all of them count.
    """

    metric: Metric
    context: int
    values: tuple[Values, ...]
    disturbed: frozenset[int] = frozenset()

    @property
    def spreads(self) -> tuple[Spread | None, ...]:
        return tuple(spread(_present(values)) for values in self.values)

    def ratio(self, one: int, other: int) -> Ratio | None:
        """Column `one` to column `other`; None where either has nothing."""
        mine, its = self.spreads[one], self.spreads[other]
        if mine is None or its is None or not its.median:
            return None
        pairs = [a / b for a, b in zip(self.values[one], self.values[other]) if a is not None and b]
        return Ratio(mine.median / its.median, spread(pairs))


@dataclass(frozen=True)
class Ratio:
    """of_medians: the ratio of the two medians. rounds: the ratios of the same round, where there are any."""

    of_medians: float
    rounds: Spread | None


@dataclass(frozen=True)
class Peaks:
    """The best of the rounds: bytes per second read, operations per second of products. None before any round."""

    read: float
    float32: float
    bfloat16: float

    @classmethod
    def of(cls, rounds: Sequence[Answer]) -> Peaks | None:
        best = {name: max(answer[name] for answer in rounds) for name in ("read", "float32", "bfloat16")} if rounds else {}
        return cls(**best) if best else None


def rows_of(record: Record) -> tuple[Row, ...]:
    """Every metric of every engine."""
    return tuple(_rows(record))


def row(rows: Sequence[Row], metric: Metric, context: int = 0) -> Row:
    return next(each for each in rows if each.metric == metric and each.context == context)


def _rows(record: Record) -> Iterator[Row]:
    peaks, contexts = Peaks.of(record.peaks), record.settings.contexts
    decoding = [_row(record, DECODE, context, "decode", _decode_speed) for context in contexts]
    prefills = [_row(record, PREFILL, context, "prefill", partial(_prefill_speed, context)) for context in contexts]
    yield from (*decoding, *prefills)
    yield _row(record, ROWS, 0, "rows", lambda one: one["several"] / one["one"])
    yield _row(record, LOAD, 0, "load", lambda one: one["seconds"])
    for metric, value in ((FIRST, _first_load), (PEAK, _peak), (OWN, _own)):
        yield Row(metric, 0, tuple([value(each.memory)] for each in record.measured))
    if peaks is not None:
        yield from _utilisations(record, decoding, prefills, peaks)


def _row(record: Record, metric: Metric, context: int, name: str, value: Callable[[Answer], float]) -> Row:
    columns = [each.rounds.get(Measure(name, context), []) for each in record.measured]
    disturbed = frozenset(index for index, column in enumerate(columns) if any(column) and not any(map(_quiet, column)))
    counted = (
        column if index in disturbed else [one if _quiet(one) else None for one in column]
        for index, column in enumerate(columns)
    )
    values = tuple([None if one is None else value(one) for one in column] for column in counted)
    return Row(metric, context, values, disturbed)


def _quiet(answer: Answer | None) -> bool:
    return answer is not None and answer["elsewhere"] <= QUIET


def _prefill_speed(context: int, answer: Answer) -> float:
    return float(context / answer["seconds"])


def _decode_speed(answer: Answer) -> float:
    return float(len(answer["ids"]) / answer["seconds"])


def _first_load(memory: Answer) -> float | None:
    return memory.get("first_load")


def _peak(memory: Answer) -> float | None:
    return memory.get("peak")


def _own(memory: Answer) -> float | None:
    peak = memory.get("peak")
    return None if peak is None else peak - memory["imports"]


def _utilisations(record: Record, decoding: Sequence[Row], prefills: Sequence[Row], peaks: Peaks) -> Iterator[Row]:
    for each in decoding:
        read = (step_bytes(one, each.context + record.settings.tokens / 2) for one in record.measured)
        yield _scaled(each, MBU, [size / peaks.read for size in read])
    for metric, peak in ((MFU, peaks.bfloat16), (MFU32, peaks.float32)):
        for each in prefills:
            work = prefill_operations(record.info, each.context)
            if work is not None:
                yield _scaled(each, metric, [work / each.context / peak] * len(each.values))


def _scaled(row: Row, metric: Metric, factors: Sequence[float]) -> Row:
    values = ([None if value is None else value * factor for value in column] for column, factor in zip(row.values, factors))
    return Row(metric, row.context, tuple(values), row.disturbed)


def step_bytes(measured: Measured, tokens: float) -> float:
    """Bytes that a step reads with `tokens` tokens held."""
    loaded = measured.loaded
    return float(loaded["weight_bytes"] + loaded["kv_bytes"] * tokens) if loaded else 0.0


def prefill_operations(info: ModelInfo, tokens: int) -> float | None:
    """Operations of a prefill: every matrix in the layers for every token, attention over what came before, one row of
    logits. None for a mixture of experts, whose headers do not tell how much of it a token uses."""
    if info.experts:
        return None
    embedding = info.vocabulary * info.width
    inside = info.parameters - embedding * (1 if info.tied_head else 2)
    attention = 2 * info.layers * info.query_heads * info.head_size * tokens * (tokens + 1)
    return float(2 * inside * tokens + attention + 2 * embedding)


def agreement(record: Record) -> tuple[tuple[int, int] | None, ...]:
    """How many tokens each engine decodes as the first one does, at the shortest context, before they part, and how many
    were compared."""
    at = Measure("decode", record.settings.contexts[0])
    answers = [[one["ids"] for one in each.rounds.get(at, []) if one] for each in record.measured]
    texts = [max(ids, key=len, default=None) for ids in answers]
    return tuple(None if text is None or texts[0] is None else _shared(texts[0], text) for text in texts)


def _shared(one: Sequence[int], other: Sequence[int]) -> tuple[int, int]:
    compared = min(len(one), len(other))
    return next((index for index, (a, b) in enumerate(zip(one, other)) if a != b), compared), compared


def _present(values: Values) -> list[float]:
    return [value for value in values if value is not None]
