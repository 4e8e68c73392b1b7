"""HTML elements whose text is always escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from core.charts.chart import Cell
from core.export.numbers import shown

_CONTROLS = {code: chr(0x2400 + code) for code in range(0x20) if code not in (0x09, 0x0A)} | {0x7F: "\u2421"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_VOID = {"meta", "br", "input"}


class Markup(str):
    """Text that is HTML already."""


def escaped(text: str) -> Markup:
    """Text as HTML shows it, control characters by their signs."""
    return Markup(html.escape(_SURROGATE.sub("\ufffd", text.translate(_CONTROLS))))


def element(tag: str, *content: str, **attributes: str | bool) -> Markup:
    """One element. Text that is not Markup is escaped; `class_` is `class`, underscores in names are dashes."""
    pairs = ((name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items() if value is not False)
    opened = "".join(f" {name}" if value is True else f' {name}="{escaped(str(value))}"' for name, value in pairs)
    if tag in _VOID:
        return Markup(f"<{tag}{opened}>")
    return Markup(f"<{tag}{opened}>{joined(content)}</{tag}>")


def joined(content: Iterable[str]) -> Markup:
    """The pieces one after another, text escaped."""
    return Markup("".join(piece if isinstance(piece, Markup) else escaped(piece) for piece in content))


def table_element(columns: Sequence[str], rows: Iterable[Sequence[Cell]], caption: str = "") -> Markup:
    """A table; numbers align to the right and missing ones are a dash. The first column names the row."""
    rows = list(rows)
    heads = (element("th", name, scope="col", class_=_class(rows, index)) for index, name in enumerate(columns))
    body = element("tbody", *(element("tr", *(_cell(index, value) for index, value in enumerate(row))) for row in rows))
    title = element("caption", caption) if caption else Markup()
    return element("div", element("table", title, element("thead", element("tr", *heads)), body), class_="scroll")


def _class(rows: Sequence[Sequence[Cell]], column: int) -> str | bool:
    """Columns that hold numbers have their heading at the right too."""
    return "number" if column and any(isinstance(row[column], int | float) for row in rows) else False


def _cell(index: int, value: Cell | Markup) -> Markup:
    if isinstance(value, str):
        text = value if isinstance(value, Markup) else value.replace("\n", "⏎").replace("\t", "⇥")
        return element("th", text, scope="row") if index == 0 else element("td", text)
    return element("td", "—" if value is None else shown(value), class_="number")
