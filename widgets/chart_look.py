"""Colours, fonts and styles that a chart is painted with, on dark or on light ground."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PySide6.QtGui import QBrush, QColor, QFont, QFontInfo, QFontMetricsF, QPen, Qt

from core.charts.chart import Badge, Series
from core.charts.palette import MEMORY, ColumnStyle, tone_of
from widgets import theme

TITLE_PIXELS, SMALL_PIXELS = 13, 11
VEIL_SHARE = 0.72  # of the veil's own grey in a veiled cell


@dataclass(frozen=True)
class Look:
    """One theme's look of charts. palette: [514] uint32 ARGB, see widgets.chart_heatmap."""

    dark: bool
    ground: QColor
    text: QColor
    muted: QColor
    grid: QColor
    frame: QColor
    accent: QColor
    badges: dict[Badge, QColor]
    title: QFont
    small: QFont
    palette: np.ndarray

    def line(self, font: QFont) -> float:
        """Height of a line of text."""
        return QFontMetricsF(font).height() + 1

    def column(self, index: int) -> ColumnStyle:
        return theme.column_style(index)

    def colour(self, series: Series) -> QColor:
        """Of the series' family, phase or kind of memory, else of its configuration."""
        return QColor((tone_of(series.key) or self.column(series.column).tone).on(self.dark))

    def pen(self, series: Series, width: float = 1.75) -> QPen:
        """The line of a series: its colour, and the dash of its configuration."""
        pen = QPen(QBrush(self.colour(series)), width, Qt.PenStyle.SolidLine, Qt.PenCapStyle.FlatCap, Qt.PenJoinStyle.RoundJoin)
        dash = self.column(series.column).dash if series.kind != "horizontal_line" else (4.0, 3.0)
        if dash:
            pen.setDashPattern(list(dash))
        return pen


def look(dark: bool) -> Look:
    """The look on dark or on light ground, in the application's font."""
    return _look(dark, QFontInfo(theme.body_font()).family())


@lru_cache(maxsize=4)
def _look(dark: bool, family: str) -> Look:
    colours = theme.DARK if dark else theme.LIGHT
    ground = QColor(colours.panel)
    return Look(
        dark=dark,
        ground=ground,
        text=QColor(colours.text),
        muted=QColor(colours.muted),
        grid=mixed(QColor(colours.border), ground, 0.3),
        frame=QColor(colours.border),
        accent=QColor(colours.accent),
        badges={
            "measured": QColor(colours.good),
            "derived": QColor(colours.accent),
            "modelled": QColor(colours.warning),
            "unavailable": QColor(colours.muted),
        },
        title=_font(family, TITLE_PIXELS, QFont.Weight.DemiBold),
        small=_font(family, SMALL_PIXELS, QFont.Weight.Normal),
        palette=_palette(theme.lut(), ground, QColor(MEMORY["budget"].on(dark))),
    )


def mixed(one: QColor, other: QColor, share: float) -> QColor:
    """`share` of `other` in `one`."""
    return QColor(*np.rint(_rgb(one) * (1 - share) + _rgb(other) * share).astype(int).tolist())


def _rgb(colour: QColor) -> np.ndarray:
    return np.array([colour.red(), colour.green(), colour.blue()], float)


def _font(family: str, pixels: int, weight: QFont.Weight) -> QFont:
    font = QFont(family)
    font.setPixelSize(pixels)
    font.setWeight(weight)
    font.setHintingPreference(QFont.HintingPreference.PreferNoHinting)
    font.setFeature(QFont.Tag("liga"), 0)  # so that `prefill` is found in a PDF
    return font


def _palette(lut: np.ndarray, ground: QColor, veil: QColor) -> np.ndarray:
    plain = np.vstack([lut.astype(float), _rgb(ground)])
    veiled = plain * (1 - VEIL_SHARE) + _rgb(mixed(veil, ground, 0.55)) * VEIL_SHARE
    colours = np.rint(np.vstack([plain, veiled])).astype(np.uint32)
    packed: np.ndarray = np.uint32(0xFF000000) | colours[:, 0] << 16 | colours[:, 1] << 8 | colours[:, 2]
    return packed
