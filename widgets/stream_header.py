"""The head of a stream: which configuration it is, how fast it runs and what it is doing."""

from __future__ import annotations

from time import monotonic

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QWidget

from core.events import MEASURE
from core.metrics import METRICS
from core.trace import Trace
from widgets.column_mark import ColumnMark
from widgets.config_text import headline
from widgets.labels import ElidedLabel, error_label
from widgets.quantity import spoken
from widgets.quiet_bar import QuietBar
from widgets.theme import GRID, column_style, mono_font, set_role

RECENT = 32  # tokens over which the live speed is taken
_PAUSE = 0.25  # seconds between two changes of the numbers: faster ones cannot be read
_REASONS = {
    "length": "done, length reached",
    "eos": "done, end of text",
    "stop_string": "done, stop string",
    "stopped": "stopped",
    "context": "done, context full",
}


class StreamHeader(QWidget):
    """Letter and configuration, state, speed and time to the first token."""

    def __init__(self, column: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown_at = 0.0
        self._state_was = ""
        self.config_line = ElidedLabel()
        self.numbers = ElidedLabel()
        self.numbers.setFont(mono_font(small=True))
        set_role(self.numbers, "muted")
        self.state = ElidedLabel()
        set_role(self.state, "small")
        self.problem = error_label()
        self._bar = QuietBar()
        self._bar.setFixedHeight(2)
        self._bar.setStyleSheet("QProgressBar { min-height: 2px; max-height: 2px; border-radius: 0; background: transparent; }")
        grid = QGridLayout(self)
        grid.setContentsMargins(GRID, GRID, GRID, 0)
        grid.setHorizontalSpacing(GRID)
        grid.setVerticalSpacing(2)
        grid.addWidget(ColumnMark(column), 0, 0, 2, 1, Qt.AlignmentFlag.AlignVCenter)
        for row, label in enumerate((self.config_line, self.numbers, self.state)):
            grid.addWidget(label, row, 1)
        grid.addWidget(self.problem, 3, 0, 1, 2)
        grid.addWidget(self._bar, 4, 0, 1, 2)
        grid.setColumnStretch(1, 1)
        self._letter = column_style(column).letter
        self.setToolTip(_definitions())

    def forget(self) -> None:
        """The next `show_trace` shows everything, however soon it comes."""
        self._shown_at = 0.0

    def show_trace(self, trace: Trace | None, reference: Trace | None, note: str = "") -> None:
        """Bring everything up to date; numbers that change while running do so four times a second.

        note: shown beside the state, such as where the run differs from A; first once the run has ended.
        """
        state, share = state_of(trace)
        ended = trace is not None and trace.finished is not None
        shown = " · ".join(part for part in ((note, state) if ended else (state, note)) if part)
        if shown == self._state_was and monotonic() - self._shown_at < _PAUSE:
            return
        self._shown_at, self._state_was = monotonic(), shown
        self.config_line.setText(_config_text(trace, reference))
        self.state.setText(shown)
        self.problem.setText(trace.failed.message if trace is not None and trace.failed is not None else "")
        self.problem.setVisible(bool(self.problem.text()))
        self.numbers.setText(numbers_of(trace))
        self._bar.show_share(share or 0.0)
        self.setAccessibleName(f"Run {self._letter}: {shown}; {self.numbers.text()}")


def _config_text(trace: Trace | None, reference: Trace | None) -> str:
    if trace is None or trace.subject is None:
        return "not run yet" if trace is None else ""
    against = reference.subject.config if reference is not None and reference.subject is not None else None
    return headline(trace.subject.config, against)


def state_of(trace: Trace | None) -> tuple[str, float | None]:
    """What the run is doing, in words, and the share done of a stage that has an end."""
    if trace is None or trace.revision == 0:
        return "waiting", None
    if trace.failed is not None:
        return "failed", None
    if trace.finished is not None:
        return _REASONS[trace.finished.reason], None
    if trace.tokens:
        return "decoding", _share(len(trace.tokens), trace.started.config.run.max_new_tokens if trace.started else 0)
    if trace.prefill and trace.started is not None:
        last = trace.prefill[-1]
        return f"prefill {last.done} of {last.total} tokens", _share(last.done, last.total)
    if trace.started is not None:
        return "prefill", None
    if not trace.live:
        return "measured, not run yet", None
    if trace.load is not None and trace.loaded is None:
        share = _share(trace.load.done, trace.load.total)
        return f"loading {share or 0:.0%} · {trace.load.stage}".replace("%", " %"), share
    return "starting", None


def _definitions() -> str:
    """What the numbers in the header are; while a run is live its speed is that of the last tokens."""
    shown = (METRICS["decode_tokens_per_s"], METRICS["ttft_ms"])
    lines = [
        f"{metric.unit if metric.unit == 'tok/s' else metric.label}: {metric.definition} ({metric.badge})" for metric in shown
    ]
    return "\n".join(
        [*lines, f"While running: tokens a second over the last {RECENT}.", "inspected: recording was on and is in the times."]
    )


def _share(done: int, total: int) -> float | None:
    return min(1.0, done / total) if total > 0 else None


def numbers_of(trace: Trace | None) -> str:
    """Speed, time to first token and tokens generated."""
    if trace is None or not trace.tokens:
        return ""
    parts = [f"{speed:.1f} tok/s"] if (speed := decode_speed(trace)) is not None else []
    parts += [f"TTFT {spoken(trace.tokens[0].ms, 'ms')}", f"{len(trace.tokens)} tokens"]
    return " · ".join([*parts, "inspected"] if trace.started is not None and trace.started.inspect != MEASURE else parts)


def decode_speed(trace: Trace) -> float | None:
    """Tokens a second: of the whole run once it is over, else of the last few tokens. None before the second token."""
    if trace.finished is not None:
        return trace.finished.metrics.get("decode_tokens_per_s")
    recent = trace.tokens[1:][-RECENT:] if len(trace.tokens) <= RECENT else trace.tokens[-RECENT:]
    passed = sum(token.ms for token in recent)
    return 1000 * len(recent) / passed if passed > 0 else None
