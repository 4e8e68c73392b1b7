"""The prompt: its text, how it is sent, how many tokens it makes and which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from PySide6.QtCore import QMimeData, QSignalBlocker, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QKeyEvent, QResizeEvent, QTextCursor
from PySide6.QtWidgets import (
    QBoxLayout,
    QCheckBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPlainTextEdit,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from core.config import Run
from core.errors import BadInput
from core.technique import options_of
from widgets.editors import NumberBox, grouped
from widgets.labels import error_label, quiet_label
from widgets.samples import Sample, samples
from widgets.theme import GRID, set_role
from widgets.token_chips import TokenChips

Tokenize = Callable[[str, bool], Sequence[tuple[int, str]]]  # text, chat → id and piece of each token; may raise BadInput
LEAST_WIDTH = 340  # pixels
PAUSE_MS = 200  # after the last key before the prompt is tokenized again


class PromptView(QFrame):
    """Edits the prompt and the settings that go with it."""

    prompt_changed = Signal(str)
    chat_changed = Signal(bool)
    inspect_changed = Signal(bool)
    max_new_tokens_changed = Signal(int)
    ids_toggled = Signal(bool)
    run_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        set_role(self, "panel")
        self._tokenize: Tokenize | None = None
        self.editor = PromptEditor()
        self.chips = TokenChips()
        self.problem = error_label()
        self.chat_box = QCheckBox("Chat template")
        self.chat_box.setToolTip("Wrap the prompt as a user's turn of the model's chat template")
        self.chat_box.setChecked(True)
        self.inspect_box = QCheckBox("Inspect")
        self.inspect_box.setToolTip(
            "Record probabilities, alternatives, attention and routing; timings then include the recording"
        )
        self.ids_box = QCheckBox("Token ids")
        self.ids_box.setToolTip("Show the exact tokens that the model reads, template included")
        self.length = NumberBox(next(option for option in options_of(Run) if option.name == "max_new_tokens"))
        self.length.setFixedWidth(12 * GRID)
        self.length.setAccessibleName("Most new tokens")
        self.length.setToolTip("Most tokens generated, in every configuration")
        self.count = quiet_label()
        self.samples_button = QToolButton()
        self._fill_samples()
        self._pause = QTimer(self, singleShot=True, interval=PAUSE_MS)
        self._pause.timeout.connect(self._count)
        self._assemble()
        self._connect()
        self.length.show_value(Run().max_new_tokens)
        self.show_ids(False)
        self._count()

    def _assemble(self) -> None:
        switches, rest = _row(self.chat_box, self.inspect_box, self.ids_box), _row(self.count)
        rest.addStretch(1)
        for widget in (QLabel("New tokens"), self.length, self.samples_button):
            rest.addWidget(widget)
        self._rows = (switches, rest)
        self._bar = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._bar.setSpacing(GRID)
        self._bar.addLayout(switches)
        self._bar.addLayout(rest, 1)
        page = QVBoxLayout(self)
        page.setContentsMargins(GRID, GRID, GRID, GRID)
        page.setSpacing(GRID)
        page.addWidget(self.editor, 1)
        page.addWidget(self.chips, 1)
        page.addWidget(self.problem)
        page.addLayout(self._bar)

    def _connect(self) -> None:
        self.editor.textChanged.connect(self._edited)
        self.editor.run_requested.connect(self.run_requested)
        self.chat_box.toggled.connect(self._chat_toggled)
        self.inspect_box.toggled.connect(self.inspect_changed)
        self.ids_box.toggled.connect(self._ids_toggled)
        self.length.edited.connect(self._length_edited)
        self.length.refused.connect(self._complain)

    # What is set

    def prompt(self) -> str:
        return self.editor.toPlainText()

    def set_prompt(self, text: str) -> None:
        """Show `text`; nothing is emitted."""
        if text != self.prompt():
            with QSignalBlocker(self.editor):
                self.editor.setPlainText(text)
            self._count()

    def chat(self) -> bool:
        return self.chat_box.isChecked()

    def set_chat(self, chat: bool) -> None:
        with QSignalBlocker(self.chat_box):
            self.chat_box.setChecked(chat)
        self._count()

    def inspect(self) -> bool:
        return self.inspect_box.isChecked()

    def set_inspect(self, inspect: bool) -> None:
        with QSignalBlocker(self.inspect_box):
            self.inspect_box.setChecked(inspect)

    def set_max_new_tokens(self, count: int) -> None:
        self.length.show_value(count)
        self._complain("")

    def follow_max_new_tokens(self, count: int) -> None:
        """The length was changed elsewhere, or here: then what is being typed is left as it is."""
        if count != self.length.value:
            self.set_max_new_tokens(count)

    def shows_ids(self) -> bool:
        return self.ids_box.isChecked()

    def show_ids(self, show: bool) -> None:
        """Show or hide the exact tokens of the prompt."""
        self.ids_box.setChecked(show)
        self.chips.setVisible(show)

    def set_tokenize(self, tokenize: Tokenize | None) -> None:
        """How the open model makes tokens of a text; None when there is no tokenizer at hand."""
        self._tokenize = tokenize
        self._count()

    def use_sample(self, sample: Sample) -> None:
        """Take a sample's prompt and settings, as if a person had set them."""
        self.chat_box.setChecked(sample.chat)
        self.set_max_new_tokens(sample.max_new_tokens)
        self.max_new_tokens_changed.emit(sample.max_new_tokens)
        self.editor.setPlainText(sample.prompt)
        self.editor.moveCursor(QTextCursor.MoveOperation.End)
        self.editor.setFocus()

    # Counting

    def _count(self) -> None:
        self._pause.stop()
        if self._tokenize is None:
            self.count.setText("")
            self.chips.show_tokens(())
            return
        try:
            tokens = self._tokenize(self.prompt(), self.chat())
        except BadInput as error:
            self._complain(str(error))
            self.count.setText("")
            self.chips.show_tokens(())
            return
        self._complain("")
        self.count.setText(f"{grouped(len(tokens))} tokens")
        self.chips.show_tokens(tokens)

    def _complain(self, message: str) -> None:
        self.problem.setText(message)
        self.problem.setVisible(bool(message))

    def _edited(self) -> None:
        self._pause.start()
        self.prompt_changed.emit(self.prompt())

    def _chat_toggled(self, chat: bool) -> None:
        self._count()
        self.chat_changed.emit(chat)

    def _ids_toggled(self, show: bool) -> None:
        self.chips.setVisible(show)
        self.ids_toggled.emit(show)

    def _length_edited(self, count: int) -> None:
        self._complain("")
        self.max_new_tokens_changed.emit(count)

    def _fill_samples(self) -> None:
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        for sample in samples():
            action = menu.addAction(sample.name)
            action.setToolTip(sample.shows)
            action.triggered.connect(partial(self._take_sample, sample))
        self.samples_button.setText("Samples")
        self.samples_button.setToolTip("Prompts that show what a technique does")
        self.samples_button.setMenu(menu)
        self.samples_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)

    def _take_sample(self, sample: Sample, _checked: bool = False) -> None:
        self.use_sample(sample)

    def minimumSizeHint(self) -> QSize:
        return QSize(LEAST_WIDTH, super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        fits = sum(row.sizeHint().width() for row in self._rows) + 3 * GRID + 2 <= self.width()
        self._bar.setDirection(QBoxLayout.Direction.LeftToRight if fits else QBoxLayout.Direction.TopToBottom)
        super().resizeEvent(event)


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(GRID)
    for widget in widgets:
        row.addWidget(widget)
    return row


class PromptEditor(QPlainTextEdit):
    """Plain text; Ctrl+Enter asks for a run."""

    run_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setPlaceholderText("Write a prompt, or take a sample. Ctrl+Enter runs it.")
        self.setAccessibleName("Prompt")
        self.setTabChangesFocus(True)
        self.setMinimumHeight(9 * GRID)

    def canInsertFromMimeData(self, source: QMimeData) -> bool:
        """Files dropped here are for the window, which opens them."""
        return not source.hasUrls() and super().canInsertFromMimeData(source)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        pressed = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if pressed and event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.run_requested.emit()
        else:
            super().keyPressEvent(event)
