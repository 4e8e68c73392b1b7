"""The model panel: facts, bytes by type, whether it fits, and recent models."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from core.events import Estimate
from tests.traces import INFO
from widgets import theme
from widgets.model_details import facts, verdict
from widgets.model_panel import EMPTY, ModelPanel

FITS = Estimate(
    96_000_000,
    23_040,
    6_000_000,
    104_000_000,
    8_000_000_000,
    {"weights": 96_000_000, "kv": 6_000_000, "activations": 2_000_000},
)


@pytest.fixture
def panel(qtbot: QtBot, qapp: QApplication) -> ModelPanel:
    theme.apply(qapp, "light")
    made = ModelPanel()
    made.resize(480, 640)
    qtbot.addWidget(made)
    made.show()
    return made


def test_that_an_empty_panel_says_how_to_open_a_model(panel: ModelPanel) -> None:
    assert panel.title.text() == EMPTY
    assert not panel.details.isVisible()


def test_that_a_model_is_described_before_it_is_loaded(panel: ModelPanel) -> None:
    panel.set_info(INFO)
    panel.set_estimate(FITS)
    assert panel.title.text() == INFO.name
    assert "Q4_1 63.3 MiB" in panel.details.stored.accessibleName()
    assert panel.details.verdict.text().startswith("Fits: needs 99.2 MiB of 7.45 GiB free.")
    panel.details.template_button.click()
    assert panel.details.template.isVisible()
    assert panel.details.template.toPlainText() == INFO.chat_template
    assert panel.horizontalScrollBar().maximum() == 0


def test_that_a_mixture_and_a_window_are_named() -> None:
    told = dict(facts(replace(INFO, experts=8, experts_used=2, sliding_window=4096)))
    assert told["Experts"] == "2 of 8 a token"
    assert told["Sliding window"] == "4\u202f096 tokens"
    assert told["Parameters"] == "135 M"


def test_that_what_does_not_fit_is_said_in_words_and_in_red(panel: ModelPanel) -> None:
    panel.set_info(INFO)
    panel.set_estimate(replace(FITS, available=50_000_000))
    assert panel.details.verdict.text().startswith("Does not fit: needs 99.2 MiB, 51.5 MiB more than the 47.7 MiB")
    assert panel.details.verdict.property("role") == "error"
    panel.set_estimate(FITS)
    assert panel.details.verdict.property("role") == ""


def test_that_unknown_free_memory_is_not_guessed() -> None:
    assert "cannot be told" in verdict(replace(FITS, available=None))


def test_that_a_problem_is_shown_in_place(panel: ModelPanel) -> None:
    panel.set_info(None, "model.bin: pickle files can run code and are not opened.")
    assert panel.problem.isVisible()


def test_that_enter_on_a_recent_model_opens_it(qtbot: QtBot, panel: ModelPanel) -> None:
    panel.set_recent(["/models/a.gguf", "default"])
    panel.recent.setCurrentRow(0)
    with qtbot.waitSignal(panel.open_requested) as opened:
        qtbot.keyClick(panel.recent, Qt.Key.Key_Return)
    assert opened.args == ["/models/a.gguf"]
