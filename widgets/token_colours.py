"""How a token is coloured in each mode, and the legend that says so with its unit.

Amounts are tints of one hue that grow stronger, so that they read without colour vision; sources also differ by underline.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor

from core.charts.palette import Tone
from core.events import Token, TokenSource
from widgets.theme import colours, is_dark, source_colour

ColourMode = Literal["none", "probability", "entropy", "latency", "source", "divergence"]
MODES: dict[ColourMode, str] = {
    "none": "No colour",
    "probability": "Probability",
    "entropy": "Entropy",
    "latency": "Latency",
    "source": "Source",
    "divergence": "First difference from A",
}
SOURCES: dict[TokenSource, str] = {
    "sampled": "sampled",
    "drafted": "drafted, accepted",
    "corrected": "corrected",
    "bonus": "bonus",
}
UNDERLINES: dict[TokenSource, Qt.PenStyle] = {
    "drafted": Qt.PenStyle.SolidLine,
    "corrected": Qt.PenStyle.DashLine,
    "bonus": Qt.PenStyle.DotLine,
}
MOST_ENTROPY = 6.0  # nats; the tint is full from here on
LEVELS = 32

_HUES: dict[str, Tone] = {
    "probability": Tone("#e8a33d", "#d98a00"),
    "entropy": Tone("#b07be0", "#8a4fc8"),
    "latency": Tone("#46b5e0", "#1f8fc8"),
    "divergence": Tone("#ee7733", "#d85a10"),
}
_STRONGEST = {True: 0.49, False: 0.6}  # share of the hue that still leaves text at 4.5:1, on dark and on light


@dataclass(frozen=True)
class LatencyRange:
    """The gaps, in ms, that the lightest and the strongest tint stand for; logarithmic between."""

    low: float = 1.0
    high: float = 1000.0

    def amount(self, ms: float) -> float:
        return _clipped(math.log(max(ms, 1e-6) / self.low) / math.log(self.high / self.low))


def latency_range(gaps: Iterable[float]) -> LatencyRange:
    """Round ends (1, 2 or 5 times a power of ten) around the middle 96 % of `gaps` in ms."""
    ordered = sorted(gap for gap in gaps if gap > 0)
    if not ordered:
        return LatencyRange()
    low = _rounded(ordered[len(ordered) // 50], up=False)
    high = _rounded(ordered[-1 - len(ordered) // 50], up=True)
    return LatencyRange(low, max(high, low * 2))


def _rounded(value: float, up: bool) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    steps = [step * power for step in (1, 2, 5, 10)]
    return next(step for step in steps if step >= value) if up else next(step for step in reversed(steps) if step <= value)


def amount(mode: ColourMode, token: Token, gaps: LatencyRange) -> float | None:
    """How strongly to tint `token`, 0 to 1: the less likely, the less certain, the slower. None when not recorded."""
    if mode == "probability":
        return None if token.probability is None else _clipped(1 - token.probability)
    if mode == "entropy":
        return None if token.entropy is None else _clipped(token.entropy / MOST_ENTROPY)
    return gaps.amount(token.ms) if mode == "latency" else None


def _clipped(value: float) -> float:
    return min(1.0, max(0.0, value))


class Shades:
    """The tints of the theme in force, made once so that painting only looks them up."""

    def __init__(self) -> None:
        ground = QColor(colours().raised)
        strongest = _STRONGEST[is_dark()]
        self.ramps = {
            mode: [blend(ground, QColor(tone.on(is_dark())), strongest * level / (LEVELS - 1)) for level in range(LEVELS)]
            for mode, tone in _HUES.items()
        }
        self.sources = {source: blend(ground, source_colour(source), 0.3) for source in UNDERLINES}
        self.inks = {source: source_colour(source) for source in UNDERLINES}

    def of(self, mode: ColourMode, strength: float) -> QColor:
        return self.ramps[mode][int(strength * (LEVELS - 1) + 0.5)]


def blend(ground: QColor, hue: QColor, share: float) -> QColor:
    """`share` of `hue` over `ground`, opaque."""
    pairs = ((ground.red(), hue.red()), (ground.green(), hue.green()), (ground.blue(), hue.blue()))
    return QColor(*(round(under + (over - under) * share) for under, over in pairs))


def ramp_ends(mode: ColourMode, gaps: LatencyRange) -> tuple[str, str]:
    """What the palest and the strongest tint stand for."""
    match mode:
        case "probability":
            return "100 %", "0 %"
        case "entropy":
            return "0", f"≥ {MOST_ENTROPY:g} nats"
        case _:
            return f"≤ {gaps.low:g}", f"≥ {gaps.high:g} ms"
