"""Colours and line styles that mean the same everywhere: cards, tokens, charts and exports. Free of Qt.

Hues follow Okabe and Ito 2008 and Paul Tol 2021, which readers with any colour vision can tell apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np


@dataclass(frozen=True)
class Tone:
    """One meaning's colour as #rrggbb on dark and on light ground."""

    dark: str
    light: str

    def on(self, dark: bool) -> str:
        return self.dark if dark else self.light


@dataclass(frozen=True)
class ColumnStyle:
    """How one configuration (A, B, C, D) is drawn. dash: lengths in line widths, () is solid. marker: o s t d."""

    letter: str
    tone: Tone
    dash: tuple[float, ...]
    marker: str


_SKY = Tone("#5ab4e8", "#1f78b4")
_ORANGE = Tone("#e8a33d", "#c27a00")
_GREEN = Tone("#2db88a", "#00855f")
_VERMILLION = Tone("#ee7733", "#c8500a")
_PURPLE = Tone("#d08bc0", "#a8508f")
_YELLOW = Tone("#f0e66e", "#574b00")  # far in lightness from orange, whose hue it has to readers without red or green
_TEAL = Tone("#66cdbf", "#2b8a80")
_ROSE = Tone("#f0a3b1", "#c4566c")
_INK = Tone("#f2f3f7", "#262b36")
_INDIGO = Tone("#9a9cf0", "#5250b8")
_GREY = Tone("#98a2b3", "#6b7484")

FAMILIES: dict[str, Tone] = {
    "attention": _SKY, "heads": _TEAL, "cache": _GREEN, "weights": _PURPLE, "ffn": _ORANGE, "decoding": _VERMILLION,
    "sampling": _YELLOW, "engine": _GREY, "run": _GREY, "model": _INDIGO,
}  # fmt: skip
PHASES: dict[str, Tone] = {
    "prefill": _INDIGO, "decode": _SKY, "verify": _ROSE, "draft": _VERMILLION, "sampling": _YELLOW, "capture": _INK,
    "attention": _SKY, "ffn": _ORANGE, "norm": _ROSE, "head": _PURPLE, "embed": _TEAL, "cache": _GREEN,
    "load": _INDIGO, "other": _GREY,
}  # fmt: skip
SOURCES: dict[str, Tone] = {
    "prompt": _GREY, "sampled": _SKY, "drafted": _GREEN, "corrected": _VERMILLION, "bonus": _PURPLE,
}  # fmt: skip
MEMORY: dict[str, Tone] = {
    "weights": _PURPLE, "kv": _GREEN, "activations": _ORANGE, "draft": _VERMILLION, "peak": _GREY, "budget": _GREY,
}  # fmt: skip
COLUMNS = (
    ColumnStyle("A", Tone("#5ab4e8", "#1f78b4"), (), "o"),
    ColumnStyle("B", Tone("#e8a33d", "#c27a00"), (5.0, 3.0), "s"),
    ColumnStyle("C", Tone("#2db88a", "#00855f"), (1.5, 2.5), "t"),
    ColumnStyle("D", Tone("#d08bc0", "#a8508f"), (6.0, 2.5, 1.5, 2.5), "d"),
)

_ANCHORS = {
    # Viridis: Smith and van der Walt 2015, CC0.
    "viridis": "440154 482475 414487 355f8d 2a788e 21918c 22a884 44bf70 7ad151 bddf26 fde725",
    # Paul Tol's sunset: two directions from a pale middle.
    "diverging": "364b9a 4a7bb7 6ea6cd 98cae1 c2e4ef eaeccc feda8b fdb366 f67e4b dd3d2d a50026",
}


def tone_of(key: str) -> Tone | None:
    """The tone of a family, phase (dotted names by their last part), token source or part of memory; None for others."""
    name = key.rpartition(".")[2]
    return next((table[name] for table in (PHASES, FAMILIES, MEMORY, SOURCES) if name in table), None)


@cache
def lut(name: str = "viridis") -> np.ndarray:
    """[256, 3] uint8: `viridis` for amounts, `diverging` for signed differences."""
    anchors = np.array([tuple(bytes.fromhex(hue)) for hue in _ANCHORS[name].split()], float)
    places = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(places, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    table: np.ndarray = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    table.setflags(write=False)
    return table
