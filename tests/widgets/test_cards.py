"""Configuration cards: choosing, what is greyed out and why, what differs from A, and adding and removing columns."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from core.config import RunConfig
from core.techniques import CATALOGUE
from tests.traces import INFO
from widgets import theme
from widgets.cards import ConfigurationPanel, ConfigurationsColumn
from widgets.config_text import headline
from widgets.editors import NumberBox
from widgets.technique_card import TechniqueCard


@pytest.fixture
def column(qtbot: QtBot, qapp: QApplication) -> ConfigurationsColumn:
    theme.apply(qapp, "dark")
    made = ConfigurationsColumn()
    made.set_info(INFO)
    made.resize(400, 900)
    qtbot.addWidget(made)
    made.show()
    return made


def card_of(panel: ConfigurationPanel, family: str) -> TechniqueCard:
    card = panel.cards[family]
    assert isinstance(card, TechniqueCard)
    return card


def choose(qtbot: QtBot, panel: ConfigurationPanel, family: str, name: str) -> None:
    """Pick a technique as a person does with the keyboard."""
    selector = card_of(panel, family).selector
    selector.setFocus()
    for _ in range(selector.count()):
        if selector.currentText() == name:
            return
        qtbot.keyClick(selector, Qt.Key.Key_Down)
    raise AssertionError(f"{family} does not reach {name}")


def test_that_choosing_a_technique_changes_the_configuration(qtbot: QtBot, column: ConfigurationsColumn) -> None:
    with qtbot.waitSignal(column.config_changed) as changed:
        choose(qtbot, column.panel, "attention", "window")
    assert changed.args[0] == 0
    assert column.configs()[0] == RunConfig().set(["attention.name=window"])


def test_that_options_of_the_chosen_technique_are_edited_in_its_card(column: ConfigurationsColumn) -> None:
    column.set_configs([RunConfig().set(["weights.name=rtn"])])
    card = card_of(column.panel, "weights")
    card.set_open(True)
    assert card.form is not None
    bits = card.form.editor("bits")
    assert isinstance(bits, NumberBox)
    bits.stepBy(-1)
    assert column.configs()[0].weights.options.bits == 3
    assert "bits 3" in card.state.text()


def test_that_options_are_said_without_needless_zeros() -> None:
    budget, share = (RunConfig().set(["cache.name=h2o", f"cache.budget={size}"]) for size in (48, 0.25))
    assert headline(budget) == "cache h2o (budget 48 · recent 0.5)"
    assert headline(share, budget) == "cache budget 0.25"
    assert headline(RunConfig().set(["run.ignore_eos=true"])) == "run ignore eos on"


def test_that_techniques_that_cannot_run_are_greyed_out_with_the_reason(column: ConfigurationsColumn) -> None:
    card = card_of(column.panel, "ffn")
    row = list(CATALOGUE["ffn"]).index("experts")
    item = card.selector._rows.item(row)
    assert not item.isEnabled()
    assert "has no experts" in item.toolTip()
    assert "has no experts" in card.unavailable.text()
    column.set_info(replace(INFO, experts=8, experts_used=2))
    assert card.selector._rows.item(row).isEnabled()


def test_that_a_setting_that_cannot_run_is_told_on_its_closed_card(column: ConfigurationsColumn) -> None:
    column.set_configs([RunConfig().set(["heads.name=kv_sharing", "heads.kv_heads=2"])])
    card = card_of(column.panel, "heads")
    assert card.problem.isVisible()
    assert "possible are 1, 3, 9" in card.problem.text()


def test_that_a_copy_is_added_and_what_differs_from_a_is_marked(qtbot: QtBot, column: ConfigurationsColumn) -> None:
    column.add_button.click()
    assert column.current == 1
    assert column.configs() == (RunConfig(), RunConfig())
    assert column.summary.text() == "B is the same as A"
    choose(qtbot, column.panel, "cache", "rolling")
    card = card_of(column.panel, "cache")
    assert card.difference.text() == "differs from A: dynamic"
    assert column.summary.text() == "B differs from A in Cache"
    column.tabs.buttons[0].click()
    assert not card.difference.isVisible()
    column.tabs.buttons[1].click()
    column.copy_button.click()
    assert column.configs()[1] == RunConfig()


def test_that_there_are_at_most_four_and_never_none(qtbot: QtBot, column: ConfigurationsColumn) -> None:
    for _ in range(5):
        column.add_copy()
    assert len(column.configs()) == 4
    assert not column.add_button.isEnabled()
    column.show_column(1)
    with qtbot.waitSignal(column.removed) as removed:
        column.remove_button.click()
    assert removed.args == [1]
    for _ in range(5):
        column.remove_current()
    assert len(column.configs()) == 1
    assert not column.remove_button.isEnabled()


def test_that_effects_stay_with_their_column(column: ConfigurationsColumn) -> None:
    column.add_copy()
    column.set_effect(1, "weights", "half the bytes", "modelled")
    column.set_effect(1, "weights", "1.4 times as fast", "measured")
    lines = card_of(column.panel, "weights").effects.lines
    assert (lines["predicted"][1].text(), lines["predicted"][2].text()) == ("half the bytes", "modelled")
    assert lines["measured"][1].text() == "1.4 times as fast"
    column.show_column(0)
    assert lines["predicted"][1].text() == ""


def test_that_cards_open_and_close_by_keyboard(qtbot: QtBot, column: ConfigurationsColumn) -> None:
    card = card_of(column.panel, "decoding")
    assert not card.body.isVisible()
    qtbot.keyClick(card.header, Qt.Key.Key_Space)
    assert card.body.isVisible()
    assert card.summary.text() == CATALOGUE["decoding"]["autoregressive"].summary
    assert card.header.accessibleDescription() == "open"


def test_that_all_closed_cards_fit_a_window_of_a_thousand_pixels(qtbot: QtBot, column: ConfigurationsColumn) -> None:
    other = RunConfig().set(["attention.name=window", "cache.name=rolling", "weights.name=rtn", "ffn.name=moefy"])
    column.set_configs([RunConfig(), other], 1)
    qtbot.wait(20)
    inner = column.panel.widget()
    assert inner is not None
    assert inner.minimumSizeHint().height() < 700


def test_that_no_card_cuts_off_its_content_when_open(qtbot: QtBot, column: ConfigurationsColumn) -> None:
    column.set_configs([RunConfig().set(["heads.name=kv_sharing", "heads.kv_heads=2", "weights.name=rtn"])])
    column.panel.set_all_open(True)
    qtbot.wait(50)
    for card in column.panel.cards.values():
        assert card.height() >= card.heightForWidth(card.width())
        assert card.form is not None
        assert card.form.height() >= card.form.sizeHint().height() or card.form.isHidden()
    assert column.panel.horizontalScrollBar().maximum() == 0


def test_that_a_length_is_given_to_every_configuration(column: ConfigurationsColumn) -> None:
    column.add_copy()
    column.set_max_new_tokens(64)
    assert [config.run.max_new_tokens for config in column.configs()] == [64, 64]
