"""The style sheet on top of Fusion: flat surfaces, thin borders, one accent."""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from widgets.theme import Colours

_ICONS = Path(__file__).resolve().parents[1] / "assets" / "icons"


def text(colours: Colours, dark: bool, small: float, mono: str) -> str:
    """The sheet in the theme's colours; small: points of the smaller text; mono: family of the monospaced font."""
    values = {**vars(colours), "small": small, "mono": mono, "icons": _ICONS.as_posix(), "ground": "dark" if dark else "light"}
    return Template(_SHEET).substitute(values)


_SHEET = """
QMainWindow, QDialog { background: $window; }
QMainWindow::separator { background: $window; width: 8px; height: 8px; }
QMainWindow::separator:hover { background: $hover; }
QSplitter::handle { background: transparent; }
QSplitter::handle:hover { background: $hover; }

QLabel { background: transparent; }
QLabel[role="heading"] { font-weight: 600; }
QLabel[role="muted"] { color: $muted; }
QLabel[role="small"] { color: $muted; font-size: ${small}pt; }
QLabel[role="mono"] { font-family: "$mono"; }
QLabel[role="error"] { color: $error; }
QLabel[role="warning"] { color: $warning; }
QLabel[role="good"] { color: $good; }

QFrame[role="card"] { background: $raised; border: 1px solid $border; border-radius: 8px; }
QFrame[role="panel"] { background: $panel; border: 1px solid $border; border-radius: 8px; }
QFrame[role="chip"] { background: transparent; border: 1px solid transparent; border-radius: 6px; }
QFrame[role="chip"]:hover { background: $hover; }
QFrame[role="chip"]:focus { border-color: $accent; }
QToolBar { background: $window; border: none; border-bottom: 1px solid $border; spacing: 0; padding: 0; }
QStatusBar { background: $panel; border: none; }
QStatusBar::item { border: none; }
QFrame[role="strip"] { background: $panel; border: none; border-top: 1px solid $border; }
QFrame[role="error"] { background: $raised; border: 1px solid $error; border-radius: 8px; }
QLabel[role="error"] { background: transparent; border: none; }
QScrollArea { background: transparent; border: none; }
QScrollArea > QWidget > QWidget { background: transparent; }

QPushButton, QToolButton { background: $raised; border: 1px solid $border; border-radius: 6px; padding: 4px 12px; }
QToolButton { padding: 4px 8px; }
QPushButton:hover, QToolButton:hover { background: $hover; }
QPushButton:pressed, QToolButton:pressed, QToolButton:checked, QPushButton:checked { background: $selection; }
QPushButton:focus, QToolButton:focus { border-color: $accent; }
QPushButton:disabled, QToolButton:disabled { color: $faint; background: transparent; }
QPushButton[role="primary"], QToolButton[role="primary"] {
    background: $accent; color: $on_accent; border-color: $accent; font-weight: 600;
}
QPushButton[role="primary"]:hover, QToolButton[role="primary"]:hover { background: $accent_hover; }
QPushButton[role="primary"]:focus, QToolButton[role="primary"]:focus { border-color: $text; }
QPushButton[role="primary"]:disabled, QToolButton[role="primary"]:disabled {
    background: $hover; color: $faint; border-color: $hover;
}
QPushButton[role="danger"], QToolButton[role="danger"] { color: $error; border-color: $error; }
QPushButton[role="danger"]:disabled, QToolButton[role="danger"]:disabled { color: $faint; border-color: $border; }
QPushButton[role="quiet"], QToolButton[role="quiet"] { background: transparent; border-color: transparent; }
QPushButton[role="quiet"]:hover, QToolButton[role="quiet"]:hover { background: $hover; }
QPushButton[role="quiet"]:focus, QToolButton[role="quiet"]:focus { border-color: $accent; }
QPushButton[role="quiet"]:checked, QToolButton[role="quiet"]:checked { background: $selection; }
QPushButton[role="slim"] { padding: 0 12px; }
QToolButton::menu-indicator { image: none; width: 0; }

QLineEdit, QPlainTextEdit, QTextEdit {
    background: $raised; border: 1px solid $border; border-radius: 6px; padding: 4px 8px;
    selection-background-color: $selection; selection-color: $text;
}
QLineEdit:focus, QPlainTextEdit:focus, QTextEdit:focus { border-color: $accent; }
QLineEdit:disabled { color: $faint; background: $panel; }

QComboBox { background: $raised; border: 1px solid $border; border-radius: 6px; padding: 3px 8px; min-height: 18px; }
QComboBox:hover { background: $hover; }
QComboBox:focus { border-color: $accent; }
QComboBox:disabled { color: $faint; background: $panel; }
QComboBox::drop-down { border: none; width: 20px; }
QComboBox::down-arrow { image: url("$icons/chevron-down-$ground.svg"); width: 12px; height: 12px; }
QComboBox QAbstractItemView {
    background: $raised; border: 1px solid $border; selection-background-color: $selection; outline: none;
}

QAbstractSpinBox {
    background: $raised; border: 1px solid $border; border-radius: 6px; padding: 3px 4px 3px 8px; min-height: 18px;
}
QAbstractSpinBox QLineEdit { background: transparent; border: none; padding: 0; }
QAbstractSpinBox:hover { background: $hover; }
QAbstractSpinBox:focus { border-color: $accent; }
QAbstractSpinBox:disabled { color: $faint; background: $panel; }
QAbstractSpinBox::up-button, QAbstractSpinBox::down-button { border: none; background: transparent; width: 16px; }
QAbstractSpinBox::up-button { subcontrol-position: top right; margin: 2px 2px 0 0; }
QAbstractSpinBox::down-button { subcontrol-position: bottom right; margin: 0 2px 2px 0; }
QAbstractSpinBox::up-button:hover, QAbstractSpinBox::down-button:hover { background: $selection; border-radius: 3px; }
QAbstractSpinBox::up-arrow { image: url("$icons/chevron-up-$ground.svg"); width: 9px; height: 9px; }
QAbstractSpinBox::down-arrow { image: url("$icons/chevron-down-$ground.svg"); width: 9px; height: 9px; }

QCheckBox { spacing: 8px; background: transparent; }
QCheckBox::indicator { width: 14px; height: 14px; border: 1px solid $faint; border-radius: 4px; background: $raised; }
QCheckBox::indicator:hover, QCheckBox:focus::indicator { border-color: $accent; }
QCheckBox::indicator:checked { background: $accent; border-color: $accent; image: url("$icons/check-$ground.svg"); }
QCheckBox::indicator:disabled { border-color: $border; background: $panel; }

QSlider::groove:horizontal { height: 4px; border-radius: 2px; background: $border; }
QSlider::sub-page:horizontal { height: 4px; border-radius: 2px; background: $accent; }
QSlider::handle:horizontal { width: 14px; height: 14px; margin: -5px 0; border-radius: 7px; background: $text; }
QSlider::handle:horizontal:hover, QSlider::handle:horizontal:focus { background: $accent; }
QSlider::sub-page:horizontal:disabled, QSlider::handle:horizontal:disabled { background: $faint; }

QDockWidget { color: $text; font-weight: 600; }
QDockWidget::title { background: $window; padding: 6px 8px; text-align: left; }
QDockWidget > QWidget { background: $panel; }

QTabBar { background: transparent; qproperty-drawBase: 0; }
QTabBar::tab { background: transparent; color: $muted; border: none; border-bottom: 2px solid transparent; padding: 6px 10px; }
QTabBar::tab:hover { color: $text; }
QTabBar::tab:selected { color: $text; border-bottom: 2px solid $accent; }
QTabBar::tab:focus { color: $accent; }
QTabBar QToolButton { padding: 0; border: none; background: $window; }
QTabWidget::pane { border: none; }

QMenuBar { background: $window; padding: 2px 4px; }
QMenuBar::item { padding: 4px 8px; border-radius: 4px; background: transparent; }
QMenuBar::item:selected { background: $hover; }
QMenu { background: $raised; border: 1px solid $border; padding: 4px; }
QMenu::item { padding: 5px 24px 5px 12px; border-radius: 4px; }
QMenu::item:selected { background: $selection; }
QMenu::item:disabled { color: $faint; }
QMenu::separator { height: 1px; background: $border; margin: 4px 8px; }
QMenu::icon { padding-left: 8px; }
QToolTip { background: $raised; color: $text; border: 1px solid $border; padding: 4px 8px; }

QHeaderView { background: transparent; }
QHeaderView::section { background: $panel; color: $muted; border: none; border-bottom: 1px solid $border; padding: 4px 8px; }
QTableView, QTreeView, QListView {
    background: $panel; alternate-background-color: $raised; border: none; gridline-color: $border; outline: none;
    selection-background-color: $selection; selection-color: $text;
}
QTableView::item, QTreeView::item, QListView::item { padding: 4px 8px; }
QTableCornerButton::section { background: $panel; border: none; }

QProgressBar { background: $hover; border: none; border-radius: 3px; max-height: 6px; min-height: 6px; }
QProgressBar::chunk { background: $accent; border-radius: 3px; }

QScrollBar:vertical { background: transparent; width: 10px; margin: 0; }
QScrollBar:horizontal { background: transparent; height: 10px; margin: 0; }
QScrollBar::handle { background: $border; border-radius: 3px; margin: 2px; }
QScrollBar::handle:hover { background: $faint; }
QScrollBar::handle:vertical { min-height: 32px; }
QScrollBar::handle:horizontal { min-width: 32px; }
QScrollBar::add-line, QScrollBar::sub-line { width: 0; height: 0; }
QScrollBar::add-page, QScrollBar::sub-page { background: transparent; }
"""
