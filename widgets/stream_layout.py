"""Where each token stands: words wrapped over lines, in time that does not grow with what is already laid out."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple

Measure = Callable[[str], float]  # text → its width in pixels

_IDEOGRAPHS = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uff60"  # a line may break beside any of these
_ATOMS = re.compile(rf"\n|[^\S\n]+|[{_IDEOGRAPHS}]|[^\s{_IDEOGRAPHS}]+")
_IDEOGRAPH = re.compile(f"[{_IDEOGRAPHS}]")
NEWLINE = "\u21b5"  # how a newline token shows itself at the end of its line


class Fragment(NamedTuple):
    """Part of an item's text on one line."""

    item: int
    text: str
    x: float
    width: float


class Atom(NamedTuple):
    """An unbreakable part of a token. kind: `w` word (glued to its neighbours), `s` blank, `n` newline, `c` breaks anywhere."""

    text: str
    width: float
    kind: str


class StreamLayout:
    """Items (tokens) in order, each of one or more fragments; `lines` is what to paint.

    `append` costs the length of the item and of the word that it continues.
    """

    def __init__(self, measure: Measure, width: float) -> None:
        self._measure = measure
        self._atoms: dict[str, tuple[Atom, ...]] = {}
        self.reset(width)

    def reset(self, width: float) -> None:
        """Forget all items; lines will be at most `width` pixels wide."""
        self.width = max(width, self._measure("MMMM"))
        self.lines: list[list[Fragment]] = [[]]
        self.first_line: list[int] = []  # of each item
        self._x = 0.0
        self._word = 0  # fragments of the last line from here on belong to the word that may go on

    def append(self, text: str) -> int:
        """Add an item; the index of the first line that changed."""
        item, changed = len(self.first_line), len(self.lines) - 1
        atoms = self._atoms.get(text)
        if atoms is None:
            atoms = self._atoms[text] = tuple(self._split(text))
        for atom in atoms:
            self._place(item, atom)
        if not atoms:
            self.first_line.append(changed)
        return changed

    def _split(self, text: str) -> Iterator[Atom]:
        for match in _ATOMS.finditer(text.replace("\t", "    ")):
            atom = match.group()
            kind = "n" if atom == "\n" else "s" if atom.isspace() else "c" if _IDEOGRAPH.match(atom) else "w"
            yield Atom(atom, self._measure(NEWLINE if kind == "n" else atom), kind)

    def _place(self, item: int, atom: Atom) -> None:
        if atom.kind in "wc" and self._x + atom.width > self.width:
            self._wrap(self._word if atom.kind == "w" else len(self.lines[-1]))
        if atom.kind == "w" and self._x + atom.width > self.width:
            return self._chop(item, atom.text)
        self._put(item, atom.text, atom.width)
        if atom.kind == "n":
            self._new_line()
        elif atom.kind != "w":
            self._word = len(self.lines[-1])
        return None

    def _put(self, item: int, text: str, width: float) -> None:
        if item == len(self.first_line):
            self.first_line.append(len(self.lines) - 1)
        self.lines[-1].append(Fragment(item, text, self._x, width))
        self._x += width

    def _new_line(self) -> None:
        self.lines.append([])
        self._x, self._word = 0.0, 0

    def _wrap(self, kept: int) -> None:
        """Begin a line and take along all but the first `kept` fragments; a word that fills its line stays."""
        line = self.lines[-1]
        if kept == 0:
            return
        moved = line[kept:]
        del line[kept:]
        self._new_line()
        for fragment in moved:
            if fragment.item != line[-1].item:
                self.first_line[fragment.item] = len(self.lines) - 1
            self._put(fragment.item, fragment.text, fragment.width)

    def _chop(self, item: int, text: str) -> None:
        """A word wider than the line goes on over as many lines as it takes."""
        for character in text:
            width = self._measure(character)
            if self._x + width > self.width:
                self._new_line()
            self._put(item, character, width)

    def find(self, line: int, x: float) -> int | None:
        """The item at `x` on `line`; None beside the text."""
        if not 0 <= line < len(self.lines):
            return None
        fragments = self.lines[line]
        index = bisect_right(fragments, x, key=lambda fragment: fragment.x) - 1
        if index < 0 or x > fragments[index].x + fragments[index].width:
            return None
        return fragments[index].item

    def nearest(self, line: int, x: float) -> int | None:
        """The item whose text is nearest to `x` on `line` or, on an empty line, the last before it."""
        for candidate in range(min(line, len(self.lines) - 1), -1, -1):
            fragments = self.lines[candidate]
            if fragments:
                return fragments[max(0, bisect_right(fragments, x, key=lambda fragment: fragment.x) - 1)].item
        return None

    def fragments_of(self, item: int) -> Iterator[tuple[int, Fragment]]:
        """(line, fragment) of every part of the item."""
        for line in range(self.first_line[item], len(self.lines)):
            found = False
            for fragment in self.lines[line]:
                if fragment.item == item:
                    found = True
                    yield line, fragment
            if not found and any(fragment.item > item for fragment in self.lines[line]):
                return
