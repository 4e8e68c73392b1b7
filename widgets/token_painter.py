"""Draws lines of tokens: tints, underlines, selection, cursor and text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PySide6.QtCore import QLineF, QPointF, QRectF
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPen

from widgets.stream_items import Item
from widgets.stream_layout import NEWLINE, Fragment
from widgets.theme import colours
from widgets.token_colours import UNDERLINES, ColourMode, LatencyRange, Shades, amount

# Latin, Greek, Cyrillic, East Asian: each character is as wide alone as beside others.
_PLAIN = re.compile("[\x00-\u02ff\u0370-\u0482\u048a-\u052f\u1e00-\u1fff\u2010-\u2027\u2e80-\ud7af\uff00-\uff60]*")


@dataclass
class Marks:
    """What is marked, as item indices. selection: first and last, both included. differs: the first token unlike A's."""

    selection: tuple[int, int] | None = None
    cursor: int | None = None
    pointed: int | None = None
    differs: int | None = None


class TokenPainter:
    """Knows the mode and the colours; `paint_line` draws one line of fragments."""

    def __init__(self, metrics: QFontMetricsF, line_height: int) -> None:
        self.mode: ColourMode = "none"
        self.gaps = LatencyRange()
        self.marks = Marks()
        self._height = line_height
        self._baseline = (line_height - metrics.height()) / 2 + metrics.ascent()
        self._middle = self._baseline - metrics.xHeight() / 2
        self.restyle()

    def restyle(self) -> None:
        """Take up the theme in force."""
        look = colours()
        self._shades = Shades()
        self._selection = QColor(look.selection)
        self._outline = QPen(QColor(look.accent), 1.5)
        self._hint = QPen(QColor(look.faint), 1)
        self._strike = QPen(self._shades.inks["corrected"], 1.5)
        self._underlines = {source: QPen(self._shades.inks[source], 2, style) for source, style in UNDERLINES.items()}
        inks = {"prompt": look.muted, "text": look.text, "rejected": look.faint, "newline": look.faint}
        self._inks = {kind: QPen(QColor(ink)) for kind, ink in inks.items()}

    def paint_line(self, painter: QPainter, x: float, y: float, line: Sequence[Fragment], items: Sequence[Item]) -> None:
        """Draw `line` with its left end at `x` and its top at `y`."""
        spans = list(_spans(line, items))
        for index, left, right in spans:
            self._ground(painter, QRectF(x + left, y + 2, right - left - 1, self._height - 4), index, items[index])
        for start, text, kind in self._runs(line, items):
            painter.setPen(self._inks[kind])
            painter.drawText(QPointF(x + start, y + self._baseline), text)
        for index, left, right in spans:
            self._over(painter, QRectF(x + left, y + 1, right - left - 1, self._height - 2), index, items[index])

    def _ground(self, painter: QPainter, box: QRectF, index: int, item: Item) -> None:
        ground = self._tint(index, item)
        selection = self.marks.selection
        if selection is not None and selection[0] <= index <= selection[1]:
            ground = self._selection
        if ground is not None:
            painter.fillRect(box, ground)

    def _tint(self, index: int, item: Item) -> QColor | None:
        if item.rejected or item.token.source == "prompt" or self.mode == "none":
            return None
        if self.mode == "source":
            return self._shades.sources.get(item.token.source)
        if self.mode == "divergence":
            first = self.marks.differs
            return None if first is None or index < first else self._shades.of("divergence", 1.0 if index == first else 0.35)
        strength = amount(self.mode, item.token, self.gaps)
        return None if strength is None else self._shades.of(self.mode, strength)

    def _runs(self, line: Sequence[Fragment], items: Sequence[Item]) -> Iterator[tuple[float, str, str]]:
        """(x, text, ink) of stretches drawn in one go. Scripts that are shaped are not joined: it could move them."""
        start, texts, kind, joins = 0.0, [""], "", False
        for fragment in line:
            its, plain = _ink(fragment, items[fragment.item]), fragment.text.isascii() or _PLAIN.fullmatch(fragment.text)
            if its != kind or not (plain and joins) or its == "newline":
                yield start, "".join(texts), kind or "text"
                start, texts, kind = fragment.x, [], its
            joins = bool(plain)
            texts.append(NEWLINE if its == "newline" else fragment.text)
        yield start, "".join(texts), kind or "text"

    def _over(self, painter: QPainter, box: QRectF, index: int, item: Item) -> None:
        """Lines through and under the token, and the box around it."""
        marks = self.marks
        if item.rejected:
            painter.setPen(self._strike)
            painter.drawLine(QLineF(box.left(), box.top() + self._middle - 1, box.right(), box.top() + self._middle - 1))
        elif self.mode == "source" and item.token.source in self._underlines:
            painter.setPen(self._underlines[item.token.source])
            painter.drawLine(QLineF(box.left() + 1, box.bottom() - 2, box.right() - 1, box.bottom() - 2))
        if index == marks.cursor or (self.mode == "divergence" and index == marks.differs):
            painter.setPen(self._outline if index == marks.cursor else self._strike)
            painter.drawRect(box)
        elif index == marks.pointed:
            painter.setPen(self._hint)
            painter.drawRect(box)


def _spans(line: Sequence[Fragment], items: Sequence[Item]) -> Iterator[tuple[int, float, float]]:
    """(item, left, right) of each token on the line; not of a blank whose word went on to the next line."""
    index, left, right = -1, 0.0, 0.0
    for fragment in line:
        if fragment.item != index:
            if index >= 0:
                yield index, left, right
            index, left = fragment.item, fragment.x
        right = fragment.x + fragment.width
    if index >= 0 and not (line[-1].x == left and line[-1].text.isspace() and items[index].token.text.strip()):
        yield index, left, right


def _ink(fragment: Fragment, item: Item) -> str:
    if fragment.text == "\n":
        return "newline"
    return "rejected" if item.rejected else "prompt" if item.token.source == "prompt" else "text"
