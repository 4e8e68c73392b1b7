"""Numbers with their units as a report prints them."""

from __future__ import annotations

import math

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")
_COUNTS = {"tokens", ""}


def shown(value: float | None, unit: str = "") -> str:
    """Three significant digits and the unit, bytes and milliseconds scaled; `unavailable` for None and NaN."""
    if value is None or not math.isfinite(value):
        return "unavailable"
    if unit == "B":
        return _bytes(value)
    if unit == "ms" and abs(value) >= 10_000:
        return f"{digits(value / 1000)} s"
    text = f"{value:,.0f}".replace(",", "\u202f") if unit in _COUNTS and float(value).is_integer() else digits(value)
    return f"{text} {unit}".rstrip()


def digits(value: float) -> str:
    """Three significant digits; powers of ten only below a thousandth."""
    rounded = float(f"{value:.3g}")
    size = abs(rounded)
    if size >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")
    if size < 1e-3:
        return f"{value:.2e}" if size else "0"
    return f"{rounded:.{2 - math.floor(math.log10(size))}f}"


def _bytes(value: float) -> str:
    power = next(power for power in reversed(range(len(_BYTES))) if abs(value) >= 999.5 * 1024 ** (power - 1) or power == 0)
    return f"{value:.0f} B" if power == 0 else f"{digits(value / 1024**power)} {_BYTES[power]}"
