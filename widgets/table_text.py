"""How the cells of a table read: numbers of a column with the same decimals, units and intervals folded in."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtGui import QFont, QFontMetricsF

from core.charts.chart import Cell, Table
from widgets.quantity import spoken
from widgets.theme import GRID

LEAST = 48.0  # pixels
_SAMPLE = 200  # rows looked at to choose decimals and widths
_MOST_COLUMNS, _FEW_ROWS = 6, 4


@dataclass(frozen=True)
class Column:
    """decimals: of its numbers, None for a column of text. struck: its text was taken back and is struck through."""

    name: str
    decimals: int | None
    struck: bool

    def text(self, cell: Cell) -> str:
        """A cell as a person reads it."""
        if cell is None or isinstance(cell, str):
            return spoken(None) if cell is None else cell
        return spoken(cell) if self.decimals is None else f"{cell:,.{self.decimals}f}".replace(",", "\u202f")


def columns_of(table: Table) -> tuple[Column, ...]:
    """The columns of a table, each with the decimals that give its usual number three digits."""
    sample = table.rows[:_SAMPLE]
    return tuple(
        Column(name, _decimals([row[index] for row in sample]), name.startswith("rejected"))
        for index, name in enumerate(table.columns)
    )


def _decimals(cells: Sequence[Cell]) -> int | None:
    numbers = [cell for cell in cells if isinstance(cell, int | float)]
    if not numbers or any(isinstance(cell, str) for cell in cells):
        return None
    if all(float(number).is_integer() for number in numbers):
        return 0
    usual = statistics.median(abs(number) for number in numbers if number)
    return min(6, max(0, 2 - math.floor(math.log10(usual))))


def readable(table: Table) -> Table:
    """The table as it is shown: units and intervals folded into their numbers, and few long rows turned on their side."""
    table = _folded(table) if "unit" in table.columns else table
    if len(table.columns) <= _MOST_COLUMNS or not 0 < len(table.rows) <= _FEW_ROWS:
        return table
    text = Column("", None, False).text
    first, *others = zip(table.columns, *table.rows, strict=True)
    return Table(tuple(map(text, first)), tuple(tuple(map(text, row)) for row in others))


def _folded(table: Table) -> Table:
    """`A`, `A low` and `A high` as one column of texts with the row's unit; ratios have none."""
    at = {name: index for index, name in enumerate(table.columns)}
    kept = [name for name in at if name != "unit" and not name.endswith((" low", " high"))]
    return Table(tuple(kept), tuple(tuple(_folded_cell(row, at, name) for name in kept) for row in table.rows))


def _folded_cell(row: tuple[Cell, ...], at: dict[str, int], name: str) -> Cell:
    value, unit = row[at[name]], str(row[at["unit"]])
    if f"{name} low" not in at or value is None or isinstance(value, str):
        return value
    low, high = row[at[f"{name} low"]], row[at[f"{name} high"]]
    if isinstance(low, float | int) and isinstance(high, float | int) and low < high:
        return f"{spoken(value, unit)}  ({spoken(low, unit)} to {spoken(high, unit)})"
    return spoken(value, unit)


def column_widths(table: Table, width: float, font: QFont, pad: float = 2 * GRID, least: float = LEAST) -> tuple[float, ...]:
    """Widths that fit the texts and `pad`; where they are too wide together, the widest give way, down to `least`."""
    metrics, rows = QFontMetricsF(font), table.rows[:_SAMPLE]
    wanted = [
        max(map(metrics.horizontalAdvance, (column.name, *(column.text(row[index]) for row in rows)))) + pad
        for index, column in enumerate(columns_of(table))
    ]
    while sum(wanted) > width + 0.5 and max(wanted) > least:
        widest = max(wanted)
        others = max((size for size in wanted if size < widest), default=least)
        share = max(others, least, widest - (sum(wanted) - width) / wanted.count(widest))
        wanted = [share if size == widest else size for size in wanted]
        if share == widest:
            break
    return tuple(wanted)
