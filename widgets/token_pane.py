"""A scrolling pane of coloured tokens that takes in a growing trace at the cost of what is new."""

from __future__ import annotations

import math
from time import perf_counter

from PySide6.QtCore import QPointF, QRect, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QFontMetricsF,
    QPainter,
    QPaintEvent,
    QResizeEvent,
    QShowEvent,
)
from PySide6.QtWidgets import QAbstractScrollArea, QFrame, QWidget

from core.trace import Trace
from widgets import theme
from widgets.stream_items import Divergence, Item, StreamItems
from widgets.stream_layout import StreamLayout
from widgets.theme import GRID, mono_font
from widgets.token_colours import ColourMode, LatencyRange
from widgets.token_painter import TokenPainter

MARGIN = GRID + GRID // 2
LONG = 4000  # items from which a resize waits for a pause before laying out again
TAKE_FOR, LOOK_EVERY = 0.01, 250  # seconds of laying out new items in one frame; items between two looks at the clock
_NOTHING = (-2, -2)


class TokenPane(QAbstractScrollArea):
    """Paints a trace's tokens. `refresh` takes in what is new and costs only that and the visible lines."""

    refreshed = Signal()  # something new was taken in

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)  # so that lines do not wrap anew when it appears
        font = mono_font()
        font.setKerning(False)  # a line's width is then the sum of its tokens'
        self.setFont(font)
        metrics = QFontMetricsF(font)
        self.line_height = math.ceil(metrics.height()) + 6
        self.lines = StreamLayout(metrics.horizontalAdvance, 400)
        self.empty_text = ""
        self.show_rejected = False
        self._painter = TokenPainter(metrics, self.line_height)
        self.marks = self._painter.marks
        self._seen = _NOTHING  # revisions of the two traces that are painted
        self._rest = QTimer(self, singleShot=True, interval=0)
        self._rest.timeout.connect(self.refresh)
        self._pause = QTimer(self, singleShot=True, interval=60)
        self._pause.timeout.connect(self._lay_out)
        self.verticalScrollBar().setSingleStep(self.line_height)
        theme.notifier.changed.connect(self._restyle)
        self.set_trace(None, None)

    def set_trace(self, trace: Trace | None, reference: Trace | None) -> None:
        """Show `trace` from its beginning; `reference` is the run it is compared with, if any."""
        self.trace, self.reference = trace, reference
        self.divergence = Divergence(trace, reference)
        self._rebuild()

    def set_mode(self, mode: ColourMode) -> None:
        self._painter.mode = mode
        self.viewport().update()

    def set_gaps(self, gaps: LatencyRange) -> None:
        """What the latency tints stand for."""
        if gaps != self._painter.gaps:
            self._painter.gaps = gaps
            self.viewport().update()

    def set_show_rejected(self, show: bool) -> None:
        self.show_rejected = show
        self._rebuild()

    @property
    def items(self) -> list[Item]:
        return self._stream.items

    @property
    def item_at(self) -> list[int]:
        """Item index of each position."""
        return self._stream.item_at

    def refresh(self) -> bool:
        """Take in what the traces gained; whether there was anything. Returns at once when hidden or unchanged.

        Of a long text as much as a frame has time for; the rest comes in the next ones.
        """
        seen = (self.trace.revision if self.trace else -1, self.reference.revision if self.reference else -1)
        if seen == self._seen or not self.isVisible():
            return False
        self._seen = seen
        following = self._following()
        changed = self._take_in()
        self.divergence.update()
        self._update_marks()
        self._update_range(following)
        self._update_from(changed)
        self.refreshed.emit()
        return True

    @property
    def behind(self) -> bool:
        """Whether a part of the traces is left for the next frames."""
        return self._rest.isActive()

    def _take_in(self) -> int:
        """Lay out new items for a while; the first line that changed."""
        changed, until = len(self.lines.lines), perf_counter() + TAKE_FOR
        for item in self._stream.pull():
            changed = min(changed, self.lines.append(item.token.text))
            late = len(self.items) % LOOK_EVERY == 0 and perf_counter() > until
            if late and not item.rejected:  # rejected drafts are pulled together with what replaced them
                self._seen = _NOTHING
                self._rest.start()
                break
        return changed

    def _following(self) -> bool:
        """Whether the end of the text stays in sight when more comes: it is in sight now, and a run is live or scrolled."""
        bar = self.verticalScrollBar()
        live = self.trace is not None and self.trace.live
        return bar.value() >= bar.maximum() - self.line_height and (live or bar.maximum() > 0)

    def _rebuild(self) -> None:
        self._stream = StreamItems(self.trace, self.show_rejected)
        self._seen = _NOTHING
        self.lines.reset(self._text_width())
        self.verticalScrollBar().setRange(0, 0)
        self._update_marks()
        if not self.refresh():
            self._update_range(following=False)
        self.viewport().update()

    def _lay_out(self) -> None:
        """Wrap all items anew; the token at the top stays at the top."""
        bar, following = self.verticalScrollBar(), self._following()
        top = self.lines.nearest(bar.value() // self.line_height, 0.0)
        self.lines.reset(self._text_width())
        for item in self._stream.items:
            self.lines.append(item.token.text)
        self._update_range(following)
        self.viewport().update()
        if top is not None and not following:
            bar.setValue(self.lines.first_line[top] * self.line_height)

    def _text_width(self) -> float:
        return float(self.viewport().width() - 2 * MARGIN)

    def _update_range(self, following: bool) -> None:
        bar = self.verticalScrollBar()
        page = self.viewport().height()
        bar.setPageStep(page)
        bar.setRange(0, max(0, len(self.lines.lines) * self.line_height + 2 * GRID - page))
        if following:
            bar.setValue(bar.maximum())

    def _update_from(self, line: int) -> None:
        """Paint a line and those after it anew; what stands above stays as it was painted."""
        top = GRID + line * self.line_height - self.verticalScrollBar().value()
        bottom = min(top + (len(self.lines.lines) - line) * self.line_height, self.viewport().height())
        if bottom > max(0, top):
            self.viewport().update(0, max(0, top), self.viewport().width(), bottom - max(0, top))

    def _update_marks(self) -> None:
        index = self.divergence.index
        position = None if index is None else self._stream.prompt + index
        known = position is not None and position < len(self._stream.item_at)
        differs = self._stream.item_at[position] if position is not None and known else None
        if differs != self.marks.differs:
            self.marks.differs = differs
            self.viewport().update()

    def item_box(self, item: int) -> QRect:
        """Where the item's first part stands, in the viewport."""
        line, fragment = next(self.lines.fragments_of(item))
        y = GRID + line * self.line_height - self.verticalScrollBar().value()
        return QRect(MARGIN + int(fragment.x), y, max(1, int(fragment.width)), self.line_height)

    def item_under(self, point: QPointF, nearest: bool = False) -> int | None:
        """The item at a point of the viewport, or the nearest one to it."""
        line = int((point.y() + self.verticalScrollBar().value() - GRID) // self.line_height)
        return (self.lines.nearest if nearest else self.lines.find)(line, point.x() - MARGIN)

    def reveal(self, item: int) -> None:
        bar, top = self.verticalScrollBar(), self.lines.first_line[item] * self.line_height
        if top < bar.value():
            bar.setValue(top)
        elif top + self.line_height + 2 * GRID > bar.value() + self.viewport().height():
            bar.setValue(top + self.line_height + 2 * GRID - self.viewport().height())

    def _restyle(self) -> None:
        self._painter.restyle()
        self.viewport().update()

    # Qt

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self.viewport())
        painter.setFont(self.font())
        if not self._stream.items:
            painter.setPen(QColor(theme.colours().muted))
            box = self.viewport().rect().adjusted(3 * GRID, 0, -3 * GRID, 0)
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, self.empty_text)
            return
        scrolled = self.verticalScrollBar().value() - GRID
        first = max(0, (event.rect().top() + scrolled) // self.line_height)
        last = (event.rect().bottom() + scrolled) // self.line_height
        for index, line in enumerate(self.lines.lines[first : last + 1], first):
            self._painter.paint_line(painter, MARGIN, index * self.line_height - scrolled, line, self._stream.items)

    def scrollContentsBy(self, dx: int, dy: int) -> None:
        """Move what is painted; only what comes into sight is painted anew."""
        self.viewport().scroll(dx, dy)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if abs(self._text_width() - self.lines.width) < 0.5:
            self._update_range(following=False)
        elif len(self._stream.items) > LONG:
            self._pause.start()
        else:
            self._lay_out()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.refresh()
