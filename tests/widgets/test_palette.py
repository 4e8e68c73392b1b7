"""The command palette, driven by keys."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget

from widgets.palette import Entry, Palette, matches


@pytest.fixture
def over(qtbot):
    over = QWidget()
    over.resize(900, 600)
    qtbot.addWidget(over)
    over.show()
    return over


def test_that_words_match_anywhere_and_best_at_the_start_of_a_word():
    assert matches("exp chart", "Export chart…") is not None
    assert matches("zzz", "Export chart…") is None
    assert matches("run", "Run") < matches("run", "Continue a run") < matches("run", "Prune")


def test_that_typing_and_enter_call_the_best_match(qtbot, over):
    called = []
    palette = Palette(over)
    palette.open([Entry("Stop", lambda: called.append("stop")), Entry("Run", lambda: called.append("run"), hint="Ctrl+Enter")])
    qtbot.keyClicks(palette.field, "ru")
    qtbot.keyClick(palette.field, Qt.Key.Key_Return)
    assert called == ["run"]
    assert not palette.isVisible()


def test_that_arrows_move_and_escape_closes_without_calling(qtbot, over):
    called = []
    palette = Palette(over)
    palette.open([Entry("One", lambda: called.append(1)), Entry("Two", lambda: called.append(2))])
    qtbot.keyClick(palette.field, Qt.Key.Key_Down)
    assert palette.list.currentRow() == 1
    qtbot.keyClick(palette.field, Qt.Key.Key_Escape)
    assert not palette.isVisible()
    assert called == []


def test_that_no_match_is_said(qtbot, over):
    palette = Palette(over)
    palette.open([Entry("One", lambda: None)])
    qtbot.keyClicks(palette.field, "nothing like it")
    assert palette.nothing.isVisible()
