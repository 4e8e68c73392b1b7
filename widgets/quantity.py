"""Numbers as a person reads them: SI and binary units, aligned decimals, round ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# unit → (from this size on, divisor, shown unit), largest first
_STEPS: dict[str, tuple[tuple[float, float, str], ...]] = {
    "B": tuple((1024.0**n, 1024.0**n, f"{prefix}iB") for n, prefix in ((4, "T"), (3, "G"), (2, "M"), (1, "K"))),
    "ms": ((10_000.0, 1000.0, "s"), (0.1, 1.0, "ms"), (0.0, 0.001, "µs")),
    "s": ((1.0, 1.0, "s"), (1e-3, 1e-3, "ms"), (0.0, 1e-6, "µs")),
}


@dataclass(frozen=True)
class Scale:
    """Shown number = value / divisor, in `unit`."""

    divisor: float
    unit: str


def scale_for(magnitude: float, unit: str) -> Scale:
    """The scale in which a number of this magnitude reads best."""
    for least, divisor, shown in _STEPS.get(unit, ()):
        if abs(magnitude) >= least and magnitude != 0:
            return Scale(divisor, shown)
    return Scale(1.0, unit)


def unit_of(label: str) -> str:
    """The unit in an axis label: `time (ms)` → `ms`; empty when there is none."""
    head, bracket, tail = label.rpartition(" (")
    return tail[:-1] if bracket and head and tail.endswith(")") and tail[:-1] in _UNITS else ""


_UNITS = {"B", "ms", "s", "%", "tokens", "tok/s", "nats", "bits", "FLOP/s", "B/s"}


def relabelled(label: str, scale: Scale) -> str:
    """The axis label with its unit put in the scale's: `memory (B)` → `memory (MiB)`."""
    name, unit = label.rpartition(" (")[0], unit_of(label)
    if not unit:
        return label
    return name if name == unit else f"{name} ({scale.unit})"


def spoken(value: float | None, unit: str = "") -> str:
    """One number with its unit, at three or more significant digits; `unavailable` for None and NaN."""
    if value is None or math.isnan(value):
        return "unavailable"
    scale = scale_for(value, unit)
    shown = value / scale.divisor
    return f"{_significant(shown)} {scale.unit}".rstrip()


def _significant(value: float) -> str:
    size = abs(value)
    if size >= 1000 or value == int(value):
        return f"{value:,.0f}".replace(",", "\u202f")
    if size < 0.001:
        return f"{value:.2e}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(size)))}f}"


def ticks(low: float, high: float, most: int, whole: bool = False) -> tuple[float, ...]:
    """Round positions within [low, high], at most `most`, 1, 2 or 5 times a power of ten apart."""
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return ()
    rough = span / max(1, most)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * 0.999)
    step = max(1.0, step) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(n * step for n in range(first, last + 1))


def tick_labels(positions: Sequence[float]) -> tuple[str, ...]:
    """The positions with as many decimals as the finest step needs, so that they align."""
    if not positions:
        return ()
    step = positions[1] - positions[0] if len(positions) > 1 else abs(positions[0])
    if step and (step < 1e-4 or max(map(abs, positions)) >= 1e7):
        return tuple(f"{position:.2g}" if position else "0" for position in positions)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step else 0
    return tuple(f"{position:.{decimals}f}" for position in positions)
