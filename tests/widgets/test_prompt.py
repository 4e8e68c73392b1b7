"""The prompt: editing, counting, exact ids, samples and Ctrl+Enter."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from core.errors import BadInput
from widgets import theme
from widgets.prompt import PromptView
from widgets.samples import samples


def words(text: str, chat: bool) -> list[tuple[int, str]]:
    """A tokenizer that makes one token of each word."""
    marks = [(1, "<user>")] if chat else []
    return [*marks, *((100 + index, f" {word}") for index, word in enumerate(text.split()))]


@pytest.fixture
def view(qtbot: QtBot, qapp: QApplication) -> PromptView:
    theme.apply(qapp, "dark")
    made = PromptView()
    made.resize(700, 240)
    qtbot.addWidget(made)
    made.show()
    return made


def test_that_tokens_are_counted_with_and_without_the_chat_template(qtbot: QtBot, view: PromptView) -> None:
    view.set_tokenize(words)
    qtbot.keyClicks(view.editor, "the sky is blue")
    qtbot.waitUntil(lambda: view.count.text() == "5 tokens")
    view.chat_box.click()
    assert view.count.text() == "4 tokens"
    assert view.prompt() == "the sky is blue"


def test_that_the_exact_ids_are_shown_on_request_and_copied(qtbot: QtBot, view: PromptView) -> None:
    view.set_tokenize(words)
    view.set_prompt("two words")
    assert not view.chips.isVisible()
    view.ids_box.click()
    assert view.shows_ids()
    assert view.chips.isVisible()
    assert view.chips.ids() == [1, 100, 101]
    qtbot.keyClick(view.chips, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QGuiApplication.clipboard().text() == "1 100 101"


def test_that_thousands_of_chips_scroll(view: PromptView) -> None:
    view.set_tokenize(words)
    view.show_ids(True)
    view.set_prompt("word " * 6000)
    assert view.chips.verticalScrollBar().maximum() > 0
    assert not view.chips.grab().isNull()


def test_that_a_prompt_that_cannot_be_tokenized_says_why(view: PromptView) -> None:
    def refuses(_text: str, _chat: bool) -> list[tuple[int, str]]:
        raise BadInput("this model has no chat template")

    view.set_tokenize(refuses)
    assert view.problem.isVisible()
    assert view.problem.text() == "this model has no chat template"
    view.set_tokenize(words)
    assert not view.problem.isVisible()


def test_that_ctrl_enter_asks_for_a_run_and_enter_makes_a_line(qtbot: QtBot, view: PromptView) -> None:
    qtbot.keyClick(view.editor, Qt.Key.Key_Return)
    assert view.prompt() == "\n"
    with qtbot.waitSignal(view.run_requested):
        qtbot.keyClick(view.editor, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert view.prompt() == "\n"


def test_that_settings_are_told_when_a_person_changes_them_and_not_when_they_are_set(qtbot: QtBot, view: PromptView) -> None:
    with qtbot.assertNotEmitted(view.chat_changed), qtbot.assertNotEmitted(view.inspect_changed):
        view.set_chat(False)
        view.set_inspect(True)
    with qtbot.assertNotEmitted(view.prompt_changed):
        view.set_prompt("set")
    assert (view.chat(), view.inspect(), view.prompt()) == (False, True, "set")
    with qtbot.waitSignal(view.max_new_tokens_changed) as changed:
        view.length.lineEdit().selectAll()
        qtbot.keyClicks(view.length.lineEdit(), "7")
    assert changed.args == [7]


def test_that_a_sample_brings_its_settings(qtbot: QtBot, view: PromptView) -> None:
    plain = next(sample for sample in samples() if not sample.chat)
    with qtbot.waitSignals([view.prompt_changed, view.chat_changed, view.max_new_tokens_changed]):
        view.use_sample(plain)
    assert view.prompt() == plain.prompt
    assert not view.chat()


def test_that_samples_say_what_they_show() -> None:
    assert len(samples()) >= 8
    for sample in samples():
        assert sample.shows
        assert sample.prompt
        assert len(sample.name) < 30
