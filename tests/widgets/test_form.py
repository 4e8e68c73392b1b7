"""Forms made from option dataclasses: values, ranges, and what is said about text that cannot be taken."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from core.config import Run, Sampling
from core.layers import parse_layers
from core.technique import layers_option, option
from core.techniques import CATALOGUE
from widgets.editors import ChoiceBox, NumberBox, Switch, TextLine
from widgets.form import OptionsForm


@dataclass(frozen=True)
class Sample:
    bits: int = option(4, "bits a weight", low=2, high=8, unit="bit")
    share: float = option(0.5, "a share", low=0.0, high=1.0)
    pool: str = option("mean", "how to pool", choices=("mean", "first"))
    exact: bool = option(False, "whether to be exact")
    layers: str = layers_option()


@pytest.fixture
def form(qtbot: QtBot) -> OptionsForm:
    made = OptionsForm(Sample, section="weights", checks={"layers": lambda text: parse_layers(text, 6)})
    qtbot.addWidget(made)
    made.show()
    return made


def typed(qtbot: QtBot, form: OptionsForm, name: str, text: str) -> None:
    """Replace what stands in an editor by typing."""
    editor = form.editor(name)
    line = editor.lineEdit() if isinstance(editor, NumberBox) else editor
    assert line is not None
    line.selectAll()  # type: ignore[union-attr]
    qtbot.keyClicks(line, text)


def test_that_each_type_has_its_editor(form: OptionsForm) -> None:
    kinds = [type(form.editor(name)) for name in ("bits", "share", "pool", "exact", "layers")]
    assert kinds == [NumberBox, NumberBox, ChoiceBox, Switch, TextLine]


def test_that_typing_changes_the_value_and_is_told(qtbot: QtBot, form: OptionsForm) -> None:
    with qtbot.waitSignal(form.changed) as changed:
        typed(qtbot, form, "bits", "6")
    assert changed.args == [Sample(bits=6)]
    typed(qtbot, form, "share", "0.125")
    typed(qtbot, form, "layers", "0-3")
    assert form.value() == Sample(bits=6, share=0.125, layers="0-3")


def test_that_choices_and_switches_change_the_value(qtbot: QtBot, form: OptionsForm) -> None:
    qtbot.keyClick(form.editor("pool"), Qt.Key.Key_Down)
    qtbot.mouseClick(form.editor("exact"), Qt.MouseButton.LeftButton, pos=form.editor("exact").rect().center() / 4)
    assert form.value().pool == "first"
    qtbot.keyClick(form.editor("exact"), Qt.Key.Key_Space)
    assert isinstance(form.value().exact, bool)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("bits", "12", "Takes a whole number, 2 to 8 bit; 4 stays in use."),
        ("bits", "4.5", "whole number"),
        ("bits", "x", "whole number"),
        ("share", "nan", "Takes a number, 0 to 1"),
        ("layers", "0-9", "not a selection of the model's 6 layers"),
    ],
)
def test_that_wrong_text_is_explained_in_place_and_the_last_good_value_stays(
    qtbot: QtBot, form: OptionsForm, name: str, text: str, says: str
) -> None:
    before = form.value()
    typed(qtbot, form, name, text)
    assert says in form.message(name)
    assert form.value() == before
    typed(qtbot, form, name, "all" if name == "layers" else "1" if name == "share" else "8")
    assert form.message(name) == ""


def test_that_steps_stay_in_range(qtbot: QtBot, form: OptionsForm) -> None:
    for _ in range(9):
        qtbot.keyClick(form.editor("bits"), Qt.Key.Key_Up)
    assert form.value().bits == 8
    for _ in range(15):
        qtbot.keyClick(form.editor("share"), Qt.Key.Key_Down)
    assert form.value().share == 0.0


def test_that_set_value_is_kept_exactly_and_not_told(qtbot: QtBot) -> None:
    form = OptionsForm(Sampling)
    qtbot.addWidget(form)
    wanted = Sampling(temperature=0.123456, top_p=0.9999, seed=2**62 + 1)
    with qtbot.assertNotEmitted(form.changed):
        form.set_value(wanted)
    assert form.value() == wanted


def test_that_big_ranges_do_not_make_wide_editors(qtbot: QtBot) -> None:
    form = OptionsForm(Sampling)
    qtbot.addWidget(form)
    assert form.sizeHint().width() < 400


@pytest.mark.parametrize(
    "kind", [Sampling, Run, *dict.fromkeys(row.options for rows in CATALOGUE.values() for row in rows.values())]
)
def test_that_every_options_dataclass_has_a_form_with_explained_editors(qtbot: QtBot, kind: type) -> None:
    form = OptionsForm(kind, section="x")
    qtbot.addWidget(form)
    assert form.value() == kind()
    for name in vars(form.value()):
        assert form.editor(name).toolTip()
        assert form.editor(name).accessibleName()
