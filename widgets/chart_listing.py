"""A chart that is a table of text, painted for pictures."""

from __future__ import annotations

import math
from itertools import zip_longest

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPen

from core.charts.chart import Cell, Table
from widgets.chart_look import Look
from widgets.quantity import spoken
from widgets.theme import GRID

_SAMPLE = 200  # rows measured to find the widths
LEAST = 48.0


def cell_text(value: Cell) -> str:
    """A cell as a person reads it."""
    return value if isinstance(value, str) else spoken(value)


def struck(column: str) -> bool:
    """Whether a column holds text that was taken back, which is shown struck through."""
    return column.startswith("rejected")


def draw_listing(painter: QPainter, listing: Table, area: QRectF, look: Look) -> None:
    """The header and as many rows as there is room for; the last line says how many are left out."""
    step = look.line(look.small) + 4
    widths = column_widths(listing, area.width(), look.small)
    room = max(1, math.floor(area.height() / step) - 1)
    shown = listing.rows if len(listing.rows) <= room else listing.rows[: room - 1]
    _row(painter, listing, listing.columns, area.topLeft(), widths, look, look.muted, header=True)
    painter.setPen(QPen(look.frame, 1.0))
    painter.drawLine(QPointF(area.left(), area.top() + step - 2), QPointF(area.right(), area.top() + step - 2))
    for number, row in enumerate(shown, 1):
        _row(painter, listing, row, area.topLeft() + QPointF(0, number * step), widths, look, look.text)
    left_out = len(listing.rows) - len(shown)
    if left_out:
        painter.setPen(QPen(look.muted))
        painter.drawText(area.bottomLeft() - QPointF(0, 4), f"… and {left_out} more rows; the table holds them all")


def column_widths(listing: Table, width: float, font: QFont) -> tuple[float, ...]:
    """Widths that fit the texts, the widest columns giving way until all fit."""
    metrics = QFontMetricsF(font)
    columns = zip_longest(listing.columns, *listing.rows[:_SAMPLE], fillvalue="")
    wanted = [max(metrics.horizontalAdvance(cell_text(cell)) for cell in column) + 2 * GRID for column in columns]
    while sum(wanted) > width + 0.5 and max(wanted) > LEAST:
        widest = max(wanted)
        others = max((size for size in wanted if size < widest), default=LEAST)
        many = wanted.count(widest)
        share = max(others, LEAST, widest - (sum(wanted) - width) / many)
        wanted = [share if size == widest else size for size in wanted]
        if share == widest:
            break
    return tuple(wanted)


def _row(
    painter: QPainter,
    listing: Table,
    row: tuple[Cell, ...],
    at: QPointF,
    widths: tuple[float, ...],
    look: Look,
    colour: QColor,
    header: bool = False,
) -> None:
    metrics = QFontMetricsF(look.small)
    left = at.x()
    for name, cell, width in zip(listing.columns, row, widths):
        font = QFont(look.small)
        font.setStrikeOut(struck(name) and not header)
        painter.setFont(font)
        painter.setPen(QPen(look.muted if struck(name) else colour))
        text = metrics.elidedText(cell_text(cell), Qt.TextElideMode.ElideRight, width - GRID)
        painter.drawText(QPointF(left, at.y() + metrics.ascent()), text)
        left += width
