"""Token streams side by side, one column a configuration, under one choice of colours."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import cast

from PySide6.QtCore import QRect, Qt, QTimer, Signal
from PySide6.QtGui import QHideEvent
from PySide6.QtWidgets import QCheckBox, QComboBox, QFrame, QHBoxLayout, QLabel, QSplitter, QVBoxLayout, QWidget

from core.trace import Trace
from widgets.labels import quiet_label
from widgets.stream_header import StreamHeader
from widgets.stream_legend import StreamLegend
from widgets.theme import GRID, column_style, set_role
from widgets.token_card import TokenCard
from widgets.token_colours import MODES, ColourMode, LatencyRange, latency_range
from widgets.token_text import TokenText

HOVER_MS = 200
SAMPLE = 4000  # latest tokens of each column that decide the ends of the latency tints
_NOT_RECORDED = "{} was not recorded in this run: turn Inspect on and run again."


class StreamView(QFrame):
    """One run: its header, and its tokens as they come."""

    continue_from = Signal(int, int)  # position, token id to put there
    cursor_moved = Signal(int)  # position

    def __init__(self, column: int = 0, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        set_role(self, "panel")
        letter = column_style(column).letter
        self._mode: ColourMode = "none"
        self._card: TokenCard | None = None
        self._hovered = -1
        self.header = StreamHeader(column)
        self.notice = quiet_label(wrap=True)
        self.notice.setContentsMargins(2 * GRID, GRID // 2, 2 * GRID, 0)
        self.tokens = TokenText()
        self.tokens.setAccessibleName(f"Tokens of {letter}")
        self.tokens.empty_text = f"The tokens of {letter} appear here as they are made.\nWrite a prompt and press Ctrl+Enter."
        self._hover = QTimer(self, singleShot=True, interval=HOVER_MS)
        self._hover.timeout.connect(self._show_hovered)
        self.tokens.refreshed.connect(self._say)
        self.tokens.pointed.connect(self._point)
        self.tokens.chosen.connect(self._open)
        self.tokens.cursor_moved.connect(self.cursor_moved)
        self.tokens.verticalScrollBar().valueChanged.connect(self._scrolled)
        self.setMinimumWidth(18 * GRID)
        column_layout = QVBoxLayout(self)
        column_layout.setContentsMargins(1, 1, 1, 1)
        column_layout.setSpacing(GRID // 2)
        for widget in (self.header, self.notice, self.tokens):
            column_layout.addWidget(widget)
        column_layout.setStretchFactor(self.tokens, 1)
        self.set_trace(None, None)

    @property
    def trace(self) -> Trace | None:
        return self.tokens.trace

    def set_trace(self, trace: Trace | None, reference: Trace | None = None) -> None:
        """Show `trace`; it is compared with `reference`, the run of column A."""
        self._close_card()
        self.header.forget()
        self.tokens.set_trace(trace, reference)
        self._say()

    def refresh(self) -> bool:
        """Take in what is new; whether there was anything. Returns at once when hidden or unchanged."""
        return self.tokens.refresh()

    def set_mode(self, mode: ColourMode) -> None:
        """Colour the tokens by `mode`."""
        self._mode = mode
        self.tokens.set_mode(mode)
        self._say()

    def open_at_cursor(self) -> None:
        """Offer the alternatives of the token under the cursor; without one, of the last token."""
        if self.tokens.items:
            self.tokens.choose_current()

    def _say(self) -> None:
        self.header.show_trace(self.tokens.trace, self.tokens.reference, self._comparison())
        self.notice.setText(self._missing())
        self.notice.setVisible(bool(self.notice.text()))

    def _comparison(self) -> str:
        divergence = self.tokens.divergence
        if not divergence.comparable:
            return ""
        if divergence.index is not None:
            return f"differs from A at token {divergence.index + 1}"
        return f"{divergence.equal} tokens as in A" if divergence.equal else ""

    def _missing(self) -> str:
        """What the colour mode needs and the run did not record."""
        trace = self.tokens.trace
        if trace is None or not trace.tokens:
            return ""
        if self._mode in ("probability", "entropy") and trace.tokens[0].probability is None:
            return _NOT_RECORDED.format(MODES[self._mode])
        if self._mode == "divergence" and self.tokens.reference is not None and not self.tokens.divergence.comparable:
            return "Not compared: A has not run on this prompt."
        return ""

    # The card of the token pointed at

    def _point(self, item: int) -> None:
        self._hovered = item
        if item >= 0:
            self._hover.start()
        else:
            self._hover.stop()
            if self._card is not None:
                self._card.leave_soon()

    def _show_hovered(self) -> None:
        if 0 <= self._hovered < len(self.tokens.items):
            self._show_card(self._hovered)

    def _open(self, item: int) -> None:
        """Show the card and give its alternatives the keyboard."""
        self._show_card(item).focus_alternatives()

    def _show_card(self, item: int) -> TokenCard:
        if self._card is None:
            self._card = TokenCard(self.window())
            self._card.continue_from.connect(self.continue_from)
            self._card.closed.connect(self.tokens.setFocus)
        box = self.tokens.item_box(item)
        corner = self.tokens.viewport().mapTo(self.window(), box.topLeft())
        shown = self.tokens.items[item]
        first = shown.position == len(self.tokens.trace.prompt_tokens) if self.tokens.trace else False
        self._card.show_token(shown, QRect(corner, box.size()), first)
        return self._card

    def _scrolled(self) -> None:
        """The card no longer stands beside its token; it stays only where it is in use."""
        if self._card is not None:
            self._card.close_card()

    def discard(self) -> None:
        """Take the column away for good."""
        self.hide()
        for widget in (self._card, self):
            if widget is not None:
                widget.deleteLater()

    def _close_card(self) -> None:
        self._hover.stop()
        if self._card is not None:
            self._card.hide()

    def hideEvent(self, event: QHideEvent) -> None:
        self._close_card()
        super().hideEvent(event)


class StreamsView(QWidget):
    """Columns A to D with one colour mode, one legend and cursors that can move together."""

    continue_from = Signal(int, int, int)  # column, position, token id
    cursor_moved = Signal(int, int)  # column, position
    mode_changed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._gaps = LatencyRange()
        self._gaps_at = 0.0
        self.columns: list[StreamView] = []
        self.mode_box = QComboBox()
        for mode, name in MODES.items():
            self.mode_box.addItem(name, mode)
        self.mode_box.setCurrentIndex(self.mode_box.findData("probability"))
        self.mode_box.setAccessibleName("Colour of tokens")
        self.legend = StreamLegend()
        self.rejected = QCheckBox("Rejected drafts")
        self.rejected.setToolTip("Show what speculative decoding drafted in vain, struck through")
        self.linked = QCheckBox("Link cursors")
        self.linked.setToolTip("Moving the cursor in one column moves it in the others")
        self._splitter = QSplitter(Qt.Orientation.Horizontal)
        self._splitter.setChildrenCollapsible(False)
        self._splitter.setHandleWidth(GRID)
        self.mode_box.currentIndexChanged.connect(self._recolour)
        self.rejected.toggled.connect(self._show_rejected)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(GRID)
        page.addLayout(self._bar())
        page.addWidget(self.legend)
        page.addWidget(self._splitter, 1)
        self.set_traces([None])

    def _bar(self) -> QHBoxLayout:
        bar = QHBoxLayout()
        bar.setSpacing(GRID)
        bar.addWidget(QLabel("Colour by"))
        bar.addWidget(self.mode_box)
        bar.addStretch(1)
        bar.addWidget(self.rejected)
        bar.addSpacing(GRID)
        bar.addWidget(self.linked)
        return bar

    @property
    def mode(self) -> ColourMode:
        return cast(ColourMode, self.mode_box.currentData())

    def set_mode(self, mode: ColourMode) -> None:
        self.mode_box.setCurrentIndex(self.mode_box.findData(mode))

    def set_traces(self, traces: Sequence[Trace | None]) -> None:
        """One column for each; the first is the reference of the others."""
        while len(self.columns) > len(traces):
            self.columns.pop().discard()
        while len(self.columns) < len(traces):
            self._add_column()
        for view, trace in zip(self.columns, traces):
            view.set_trace(trace, traces[0] if view is not self.columns[0] else None)
        self.linked.setVisible(len(traces) > 1)
        self._rescale()

    def refresh(self) -> None:
        """Called by the window's timer; costs nothing when hidden or when nothing is new."""
        if self.isVisible():
            changed = [view.refresh() for view in self.columns]
            if any(changed) and monotonic() - self._gaps_at > 0.5:
                self._rescale()

    def repaint_now(self) -> None:
        """Paint what was taken in without waiting for the event loop: the first token is shown at once."""
        for view in self.columns:
            view.tokens.viewport().repaint()

    def _add_column(self) -> None:
        column = len(self.columns)
        view = StreamView(column)
        view.set_mode(self.mode)
        view.tokens.set_show_rejected(self.rejected.isChecked())
        view.tokens.set_gaps(self._gaps)
        view.continue_from.connect(lambda position, token: self.continue_from.emit(column, position, token))
        view.cursor_moved.connect(lambda position: self._cursor_moved(column, position))
        self.columns.append(view)
        self._splitter.addWidget(view)
        self._splitter.setSizes([1000] * len(self.columns))

    def _cursor_moved(self, column: int, position: int) -> None:
        self.cursor_moved.emit(column, position)
        if self.linked.isChecked():
            for view in self.columns[:column] + self.columns[column + 1 :]:
                view.tokens.set_cursor(position)

    def _recolour(self) -> None:
        for view in self.columns:
            view.set_mode(self.mode)
        self._rescale()
        self.mode_changed.emit(self.mode)

    def _show_rejected(self, show: bool) -> None:
        for view in self.columns:
            view.tokens.set_show_rejected(show)

    def _rescale(self) -> None:
        """Give the latency tints of all columns the same ends."""
        self._gaps_at = monotonic()
        if self.mode == "latency":
            traces = [view.trace for view in self.columns if view.trace is not None]
            latest = (trace.tokens[max(1, len(trace.tokens) - SAMPLE) :] for trace in traces)
            self._gaps = latency_range(token.ms for tokens in latest for token in tokens)
            for view in self.columns:
                view.tokens.set_gaps(self._gaps)
        self.legend.show_mode(self.mode, self._gaps)
