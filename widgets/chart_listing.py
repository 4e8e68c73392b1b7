"""A chart that is a table of text, painted for pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QFont, QFontMetricsF, QPainter, QPen

from core.charts.chart import Table
from widgets.chart_look import Look
from widgets.table_text import Column, column_widths, columns_of, readable
from widgets.theme import GRID


def draw_listing(painter: QPainter, listing: Table, area: QRectF, look: Look) -> None:
    """The header and as many rows as there is room for; the last line says how many are left out."""
    listing = readable(listing)
    step = look.line(look.small) + 4
    columns, widths = columns_of(listing), column_widths(listing, area.width(), look.small)
    room = max(1, math.floor(area.height() / step) - 1)
    shown = listing.rows if len(listing.rows) <= room else listing.rows[: room - 1]
    painter.setFont(look.small)
    painter.setPen(QPen(look.muted))
    _row(painter, columns, listing.columns, area.topLeft(), widths)
    painter.setPen(QPen(look.frame, 1.0))
    painter.drawLine(QPointF(area.left(), area.top() + step - 2), QPointF(area.right(), area.top() + step - 2))
    painter.setPen(QPen(look.text))
    for number, row in enumerate(shown, 1):
        texts = [column.text(cell) for column, cell in zip(columns, row)]
        _row(painter, columns, texts, area.topLeft() + QPointF(0, number * step), widths, strike=True)
    if left_out := len(listing.rows) - len(shown):
        painter.setPen(QPen(look.muted))
        painter.drawText(area.bottomLeft() - QPointF(0, 4), f"… and {left_out} more rows; the table holds them all")


def _row(
    painter: QPainter,
    columns: Sequence[Column],
    texts: Sequence[str],
    at: QPointF,
    widths: Sequence[float],
    strike: bool = False,
) -> None:
    """One line of texts: numbers flush right, text flush left, what was taken back struck through."""
    plain, metrics, left = QFont(painter.font()), QFontMetricsF(painter.font()), at.x()
    for column, text, width in zip(columns, texts, widths):
        font = QFont(plain)
        font.setStrikeOut(strike and column.struck)
        painter.setFont(font)
        shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, width - 2 * GRID)
        indent = width - 2 * GRID - metrics.horizontalAdvance(shown) if column.decimals is not None else 0.0
        painter.drawText(QPointF(left + indent, at.y() + metrics.ascent()), shown)
        left += width
    painter.setFont(plain)
