"""Walking, choosing and selecting tokens of a stream by keyboard and mouse."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from tests.traces import make_trace
from widgets import theme
from widgets.streams import StreamsView, StreamView


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
