"""Token streams on real widgets: following a run, colours, cursor, card, copying, and the cost of a frame."""

from __future__ import annotations

import statistics
from dataclasses import replace
from time import process_time

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QGuiApplication
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from core.config import RunConfig
from core.events import Failed, LoadProgress, Step, Token
from core.trace import Trace
from tests.traces import make_events, make_trace
from widgets import theme
from widgets.streams import StreamsView, StreamView
from widgets.token_colours import Shades, latency_range

SPECULATIVE = RunConfig().set(["decoding.name=prompt_lookup"])


@pytest.fixture
def view(qtbot: QtBot, qapp: QApplication) -> StreamView:
    theme.apply(qapp, "dark")
    made = StreamView()
    made.resize(480, 400)
    qtbot.addWidget(made)
    made.show()
    return made


def grown(trace: Trace, count: int) -> None:
    """Add `count` steps of one token each."""
    for _ in range(count):
        index = len(trace.prompt_tokens) + len(trace.tokens)
        token = Token(index, index % 997, f" word{index % 97}", "sampled", 1.0, 0.5, 2.0)
        trace.add(Step(index, (token,), 1.0, {}, index, index))


def test_that_a_live_run_is_followed_token_by_token(view: StreamView) -> None:
    trace = Trace()
    view.set_trace(trace)
    for event in make_events():
        trace.add(event)
        view.refresh()
    assert len(view.tokens.items) == len(trace.all_tokens)
    view.tokens.select_all()
    assert view.tokens.selected_text() == "".join(token.text for token in trace.all_tokens)


def test_that_refresh_does_nothing_when_nothing_is_new_or_the_view_is_hidden(view: StreamView) -> None:
    trace = make_trace(finished=False)
    view.set_trace(trace)
    assert not view.refresh()
    grown(trace, 1)
    view.hide()
    assert not view.refresh()
    view.show()
    assert len(view.tokens.items) == len(trace.all_tokens)


def test_that_the_header_says_what_the_run_is_doing(view: StreamView) -> None:
    trace = Trace()
    view.set_trace(trace)
    seen = []
    events = list(make_events(finished=True))
    for event in [LoadProgress("reading", 43, 100), *events]:
        trace.add(event)
        view.refresh()
        seen.append(view.header.state.text())
    assert seen[0] == "loading 43 % · reading"
    assert "prefill 15 of 15 tokens" in seen
    assert "decoding" in seen
    assert seen[-1] == "done, end of text"
    assert "tok/s" in view.header.numbers.text()
    assert "TTFT" in view.header.numbers.text()


def test_that_a_failure_is_told_in_place(view: StreamView) -> None:
    trace = Trace()
    view.set_trace(trace)
    trace.add(Failed("The engine ran out of memory.", False))
    view.refresh()
    assert view.header.state.text() == "failed"
    assert view.header.problem.text() == "The engine ran out of memory."
    assert view.header.problem.isVisible()


def test_that_what_was_not_inspected_is_said_and_not_coloured(view: StreamView) -> None:
    view.set_trace(make_trace(inspect=False))
    view.set_mode("probability")
    assert view.notice.isVisible()
    assert "Inspect" in view.notice.text()
    view.set_mode("latency")
    assert not view.notice.isVisible()


def test_that_the_first_token_unlike_a_is_found_and_painted(view: StreamView) -> None:
    a, b = make_trace(), make_trace(diverges_at=24)
    view.set_trace(b, a)
    view.set_mode("divergence")
    index = len(b.prompt_tokens) + 24
    assert view.tokens.marks.differs == index
    assert view.header.state.text().startswith("differs from A at token 25")
    image = view.tokens.viewport().grab().toImage()
    box = view.tokens.item_box(index)
    assert image.pixelColor(box.topLeft() + QPoint(3, 4)) == Shades().of("divergence", 1.0)


def test_that_runs_on_different_prompts_are_not_compared(view: StreamView) -> None:
    a, b = make_trace(), make_trace(diverges_at=3)
    assert b.started is not None
    b.started = replace(b.started, prompt_tokens=b.started.prompt_tokens[1:])
    view.set_trace(b, a)
    view.set_mode("divergence")
    assert "differs" not in view.header.state.text()
    assert view.tokens.marks.differs is None
    assert view.notice.isVisible()


def test_that_the_header_follows_at_once_when_another_run_is_shown(view: StreamView) -> None:
    view.set_trace(make_trace(SPECULATIVE))
    assert "prompt_lookup" in view.header.config_line.text()
    view.set_trace(make_trace())
    assert view.header.config_line.text() == "as trained"
    assert view.header.numbers.text().endswith("inspected")
    view.set_trace(None)
    assert view.header.config_line.text() == "not run yet"


def test_that_rejected_drafts_stand_before_the_token_that_replaced_them(view: StreamView) -> None:
    trace = make_trace(SPECULATIVE)
    view.set_trace(trace)
    shown = len(view.tokens.items)
    view.tokens.set_show_rejected(True)
    rejected = sum(len(drafted.drafted) - drafted.accepted for drafted in trace.rounds)
    assert len(view.tokens.items) == shown + rejected
    first = next(index for index, item in enumerate(view.tokens.items) if item.rejected)
    after = next(item for item in view.tokens.items[first:] if not item.rejected)
    assert after.token.source == "corrected"
    view.tokens.select_all()
    assert view.tokens.selected_text() == "".join(token.text for token in trace.all_tokens)


def test_that_arrow_keys_walk_tokens_and_tell_assistive_technology(qtbot: QtBot, view: StreamView) -> None:
    view.set_trace(make_trace())
    with qtbot.waitSignal(view.cursor_moved) as moved:
        qtbot.keyClick(view.tokens, Qt.Key.Key_Home, Qt.KeyboardModifier.ControlModifier)
    assert moved.args == [0]
    qtbot.keyClick(view.tokens, Qt.Key.Key_Right)
    assert view.tokens.accessibleDescription().startswith("token ␣in, id")
    qtbot.keyClick(view.tokens, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    qtbot.keyClick(view.tokens, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QGuiApplication.clipboard().text() == " in one"
    qtbot.keyClick(view.tokens, Qt.Key.Key_Down)
    assert view.tokens.marks.selection is None


def test_that_enter_opens_the_alternatives_and_enter_again_continues_from_one(qtbot: QtBot, view: StreamView) -> None:
    trace = make_trace()
    view.set_trace(trace)
    view.tokens.set_cursor(20)
    qtbot.keyClick(view.tokens, Qt.Key.Key_Return)
    card = view._card
    assert card is not None
    assert card.isVisible()
    assert card.alternatives.count() == 10
    card.alternatives.setCurrentRow(1)
    with qtbot.waitSignal(view.continue_from) as chosen:
        qtbot.keyClick(card.alternatives, Qt.Key.Key_Return)
    top = trace.all_tokens[20].top_ids
    assert top is not None
    assert chosen.args == [20, int(top[1])]
    assert not card.isVisible()


def test_that_clicking_an_alternative_emits_once(qtbot: QtBot, view: StreamView) -> None:
    view.set_trace(make_trace())
    qtbot.mouseClick(view.tokens.viewport(), Qt.MouseButton.LeftButton, pos=view.tokens.item_box(25).center())
    card, chosen = view._card, []
    assert card is not None
    view.continue_from.connect(lambda *args: chosen.append(args))
    row = card.alternatives.visualItemRect(card.alternatives.item(2)).center()
    qtbot.mouseDClick(card.alternatives.viewport(), Qt.MouseButton.LeftButton, pos=row)
    qtbot.mouseClick(card.alternatives.viewport(), Qt.MouseButton.LeftButton, pos=row)
    assert len(chosen) == 1


def test_that_dragging_selects_whole_tokens(qtbot: QtBot, view: StreamView) -> None:
    view.set_trace(make_trace())
    port = view.tokens.viewport()
    qtbot.mousePress(port, Qt.MouseButton.LeftButton, pos=view.tokens.item_box(0).center())
    qtbot.mouseMove(port, view.tokens.item_box(2).center())
    assert view.tokens.marks.pointed is None or view.tokens.marks.selection == (0, 2)


def test_that_a_long_stream_keeps_its_place_when_resized_and_follows_at_the_end(view: StreamView) -> None:
    trace = Trace()
    trace.started = make_trace().started
    view.set_trace(trace)
    grown(trace, 3000)
    view.refresh()
    bar = view.tokens.verticalScrollBar()
    assert bar.value() == bar.maximum() > 0
    bar.setValue(bar.maximum() // 2)
    top = view.tokens.lines.nearest(bar.value() // view.tokens.line_height, 0.0)
    view.resize(300, 400)
    assert view.tokens.lines.nearest(bar.value() // view.tokens.line_height, 0.0) == pytest.approx(top, abs=8)
    grown(trace, 100)
    view.refresh()
    assert bar.value() < bar.maximum()


def test_that_cursors_move_together_when_linked(qtbot: QtBot, qapp: QApplication) -> None:
    theme.apply(qapp, "light")
    both = StreamsView()
    qtbot.addWidget(both)
    both.show()
    both.set_traces([make_trace(), make_trace(diverges_at=10)])
    both.linked.setChecked(True)
    both.columns[0].tokens.move_cursor(18)
    assert both.columns[1].tokens.marks.cursor == 18
    both.set_traces([make_trace()])
    assert len(both.columns) == 1


def test_that_the_legend_names_units_in_every_mode(qtbot: QtBot) -> None:
    both = StreamsView()
    qtbot.addWidget(both)
    both.set_traces([make_trace()])
    both.show()
    words = {}
    for mode in ("none", "probability", "entropy", "latency", "source", "divergence"):
        both.set_mode(mode)  # type: ignore[arg-type]
        words[mode] = both.legend.text()
    assert words["none"] == ""
    assert "%" in words["probability"]
    assert "nats" in words["entropy"]
    assert "ms" in words["latency"]
    assert "drafted" in words["source"]


def test_that_latency_ends_are_round_and_hold_the_gaps() -> None:
    ends = latency_range([8.2, 9.1, 11.0, 40.0])
    assert (ends.low, ends.high) == (5.0, 50.0)
    assert ends.amount(5.0) == 0.0
    assert ends.amount(80.0) == 1.0


@pytest.mark.parametrize("mode", ["dark", "light"])
def test_that_text_stays_readable_on_the_strongest_tint(qapp: QApplication, mode: theme.Mode) -> None:
    theme.apply(qapp, mode)
    ink = QColor(theme.colours().text)
    for ramp in ("probability", "entropy", "latency", "divergence"):
        assert contrast(ink, Shades().of(ramp, 1.0)) >= 4.5  # type: ignore[arg-type]
    for ground in Shades().sources.values():
        assert contrast(ink, ground) >= 4.5


def contrast(one: QColor, other: QColor) -> float:
    """WCAG 2 contrast ratio."""

    def light(colour: QColor) -> float:
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour.getRgbF()[:3]]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_that_a_thousand_tokens_a_second_leave_each_frame_under_16_ms(qtbot: QtBot, qapp: QApplication) -> None:
    both = StreamsView()
    both.resize(1000, 800)
    qtbot.addWidget(both)
    both.show()
    a, b = Trace(), Trace()
    a.started = b.started = make_trace().started
    both.set_traces([a, b])
    both.set_mode("probability")
    for trace in (a, b):
        grown(trace, 20_000)
    both.refresh()
    qapp.processEvents()
    frames = []
    for _ in range(30):
        for trace in (a, b):
            grown(trace, 33)
        begun = process_time()
        both.refresh()
        qapp.processEvents()
        frames.append(1000 * (process_time() - begun))
    assert statistics.median(frames) < 16


def test_that_a_finished_run_given_while_hidden_is_told_in_full_and_shown_from_its_beginning(
    qtbot: QtBot, qapp: QApplication
) -> None:
    theme.apply(qapp, "dark")
    both = StreamsView()
    qtbot.addWidget(both)
    both.resize(360, 240)
    both.set_traces([make_trace(), make_trace(diverges_at=24)])
    both.show()
    state = both.columns[1].header.state.text()
    assert state.startswith("differs from A at token 25")
    bar = both.columns[1].tokens.verticalScrollBar()
    assert bar.value() == 0 < bar.maximum()
