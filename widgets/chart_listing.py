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
MOST_COLUMNS, FEW_ROWS = 6, 4


def cell_text(value: Cell) -> str:
    """A cell as a person reads it."""
    return value if isinstance(value, str) else spoken(value)


def readable(listing: Table) -> Table:
    """The table as it is shown: units and intervals folded into their numbers, and few long rows turned on their side."""
    listing = _folded(listing) if "unit" in listing.columns else listing
    if len(listing.columns) <= MOST_COLUMNS or not 0 < len(listing.rows) <= FEW_ROWS:
        return listing
    first, *others = zip(listing.columns, *listing.rows, strict=True)
    return Table(tuple(map(cell_text, first)), tuple(tuple(map(cell_text, row)) for row in others))


def _folded(listing: Table) -> Table:
    """`A`, `A low` and `A high` as one column of texts with the row's unit; ratios have none."""
    at = {name: index for index, name in enumerate(listing.columns)}
    kept = [name for name in at if name != "unit" and not name.endswith((" low", " high"))]
    rows = tuple(tuple(_folded_cell(row, at, name) for name in kept) for row in listing.rows)
    return Table(tuple(kept), rows)


def _folded_cell(row: tuple[Cell, ...], at: dict[str, int], name: str) -> Cell:
    value, unit = row[at[name]], str(row[at["unit"]])
    if f"{name} low" not in at or value is None or isinstance(value, str):
        return cell_text(value)
    low, high = row[at[f"{name} low"]], row[at[f"{name} high"]]
    if isinstance(low, float | int) and isinstance(high, float | int) and low < high:
        return f"{spoken(value, unit)}  ({spoken(low, unit)} to {spoken(high, unit)})"
    return spoken(value, unit)


def struck(column: str) -> bool:
    """Whether a column holds text that was taken back, which is shown struck through."""
    return column.startswith("rejected")


def draw_listing(painter: QPainter, listing: Table, area: QRectF, look: Look) -> None:
    """The header and as many rows as there is room for; the last line says how many are left out."""
    listing = readable(listing)
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


def column_widths(listing: Table, width: float, font: QFont, pad: float = 2 * GRID, least: float = LEAST) -> tuple[float, ...]:
    """Widths that fit the texts and `pad`; where they are too wide together, the widest give way, down to `least`."""
    metrics = QFontMetricsF(font)
    columns = zip_longest(listing.columns, *listing.rows[:_SAMPLE], fillvalue="")
    wanted = [max(metrics.horizontalAdvance(cell_text(cell)) for cell in column) + pad for column in columns]
    while sum(wanted) > width + 0.5 and max(wanted) > least:
        widest = max(wanted)
        others = max((size for size in wanted if size < widest), default=least)
        many = wanted.count(widest)
        share = max(others, least, widest - (sum(wanted) - width) / many)
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
