"""One look for every widget: palette, style sheet, fonts, spacing and the colours of families, phases and columns.

Widgets ask here for colours when they paint, and repaint on `notifier.changed`. Roles that the style sheet knows, set with
`set_role(widget, role)`: labels `heading` `muted` `small` `mono` `error` `warning` `good`, frames `card` `panel` `strip`,
buttons `primary` `quiet` `danger` `slim`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PySide6.QtCore import QObject, Qt, Signal, Slot
from PySide6.QtGui import QColor, QFont, QFontDatabase, QFontInfo, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication, QWidget

from core.charts import palette
from widgets import stylesheet

Mode = Literal["dark", "light", "system"]
MODES: tuple[Mode, ...] = ("dark", "light", "system")
GRID = 8  # pixels; every margin and gap is a multiple of half of it
BODY_POINTS, SMALL_POINTS = 10.0, 8.5


@dataclass(frozen=True)
class Colours:
    """The surfaces and inks of one theme, as #rrggbb."""

    window: str
    panel: str
    raised: str
    hover: str
    border: str
    text: str
    muted: str
    faint: str
    accent: str
    accent_hover: str
    on_accent: str
    selection: str
    error: str
    warning: str
    good: str


DARK = Colours(
    window="#14161a", panel="#1a1d22", raised="#22262d", hover="#2a2f38", border="#31363f", text="#e7e9ee", muted="#a0a8b6",
    faint="#6d7583", accent="#7d8bff", accent_hover="#929eff", on_accent="#0e1018", selection="#343c6b",
    error="#ff7b72", warning="#e8b04a", good="#4cc38a",
)  # fmt: skip
LIGHT = Colours(
    window="#f3f4f7", panel="#fafbfc", raised="#ffffff", hover="#eceef3", border="#d9dce3", text="#1b1f27", muted="#586070",
    faint="#8b93a1", accent="#4a53d6", accent_hover="#3a43c2", on_accent="#ffffff", selection="#d5d9ff",
    error="#c2352b", warning="#94650a", good="#16794f",
)  # fmt: skip


class Notifier(QObject):
    """Tells widgets that paint themselves to do so again."""

    changed = Signal()

    @Slot()
    def follow_system(self) -> None:
        """The desktop went from dark to light, or back."""
        app = QApplication.instance()
        if _mode == "system" and isinstance(app, QApplication):
            _paint(app)


notifier = Notifier()
_current = DARK
_mode: Mode = "system"


def apply(app: QApplication, mode: Mode) -> None:
    """Give the whole application the dark or light look, or follow the system's (and go on following it)."""
    global _mode
    _mode = mode
    hints = app.styleHints()
    schemes = {"dark": Qt.ColorScheme.Dark, "light": Qt.ColorScheme.Light, "system": Qt.ColorScheme.Unknown}
    hints.setColorScheme(schemes[mode])
    hints.colorSchemeChanged.connect(notifier.follow_system, Qt.ConnectionType.UniqueConnection)
    _paint(app)


def mode() -> Mode:
    """What was asked for: dark, light or system."""
    return _mode


def is_dark() -> bool:
    return _current is DARK


def colours() -> Colours:
    """Surfaces and inks of the theme in force."""
    return _current


def accent() -> QColor:
    return QColor(_current.accent)


def family_colour(name: str) -> QColor:
    """A technique family's colour; grey for a name that has none."""
    return _colour(palette.FAMILIES.get(name))


def source_colour(name: str) -> QColor:
    """The colour of a token's source: prompt, sampled, drafted, corrected, bonus."""
    return _colour(palette.SOURCES.get(name))


def key_colour(key: str, column: int = 0) -> QColor:
    """The colour of a chart series: of its family, phase or kind of memory, else of its column."""
    return _colour(palette.tone_of(key) or column_style(column).tone)


def column_style(index: int) -> palette.ColumnStyle:
    """Letter, tone, dash and marker of configuration A, B, C, D (0 …)."""
    return palette.COLUMNS[index % len(palette.COLUMNS)]


def column_colour(index: int) -> QColor:
    return QColor(column_style(index).tone.on(is_dark()))


def lut(name: str = "viridis") -> np.ndarray:
    """[256, 3] uint8 colours of a heatmap: `viridis` or `diverging`."""
    return palette.lut(name)


def body_font(bold: bool = False) -> QFont:
    font = QFont(QApplication.font())
    font.setPointSizeF(BODY_POINTS)
    font.setWeight(QFont.Weight.DemiBold if bold else QFont.Weight.Normal)
    return font


def small_font(bold: bool = False) -> QFont:
    font = body_font(bold)
    font.setPointSizeF(SMALL_POINTS)
    return font


def mono_font(small: bool = False) -> QFont:
    """The one monospaced font, for tokens, ids and numbers in columns."""
    font = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)
    font.setFamilies([*(name for name in _MONO if name in QFontDatabase.families()), font.family()])
    font.setStyleHint(QFont.StyleHint.Monospace)
    font.setPointSizeF(SMALL_POINTS if small else BODY_POINTS)
    return font


def set_role(widget: QWidget, role: str) -> None:
    """Give a widget one of the style sheet's roles; may be changed at any time."""
    widget.setProperty("role", role)
    widget.style().unpolish(widget)
    widget.style().polish(widget)


# Drawn for screens; taken in this order where the desktop names no font of its own but a generic one.
_SANS = ("Inter", "Noto Sans", "Cantarell", "Ubuntu", "Liberation Sans")
_MONO = ("JetBrains Mono", "Cascadia Mono", "SF Mono", "Noto Sans Mono")
_GENERIC = {"DejaVu Sans", "Sans Serif", "Sans", "Helvetica"}


def _sans_font() -> QFont:
    """The desktop's own interface font; a better one than the generic fallback where there is no desktop."""
    font = QFontDatabase.systemFont(QFontDatabase.SystemFont.GeneralFont)
    if QFontInfo(font).family() in _GENERIC:
        present = set(QFontDatabase.families())
        font.setFamilies([*(name for name in _SANS if name in present), font.family()])
    font.setPointSizeF(BODY_POINTS)
    return font


def _colour(tone: palette.Tone | None) -> QColor:
    return QColor((tone or palette.PHASES["other"]).on(is_dark()))


def _paint(app: QApplication) -> None:
    global _current
    dark = _mode == "dark" or (_mode == "system" and QGuiApplication.styleHints().colorScheme() != Qt.ColorScheme.Light)
    _current = DARK if dark else LIGHT
    if not app.styleSheet():  # the first time: a new style, like a new font, makes every widget lay itself out again
        app.setStyle("Fusion")
        app.setFont(_sans_font())
    app.setPalette(_palette(_current))
    app.setStyleSheet(stylesheet.text(_current, dark, SMALL_POINTS, mono_font().family()))
    notifier.changed.emit()


def _palette(colours: Colours) -> QPalette:
    role = QPalette.ColorRole
    made = QPalette()
    inks = {
        role.Window: colours.window, role.Base: colours.raised, role.AlternateBase: colours.panel, role.Button: colours.raised,
        role.ToolTipBase: colours.raised, role.Text: colours.text, role.WindowText: colours.text, role.ButtonText: colours.text,
        role.ToolTipText: colours.text, role.BrightText: colours.error, role.PlaceholderText: colours.faint,
        role.Highlight: colours.selection, role.HighlightedText: colours.text, role.Accent: colours.accent,
        role.Link: colours.accent, role.LinkVisited: colours.accent, role.Mid: colours.border, role.Dark: colours.border,
        role.Light: colours.hover, role.Midlight: colours.hover, role.Shadow: "#000000",
    }  # fmt: skip
    for name, ink in inks.items():
        made.setColor(name, QColor(ink))
    for name in (role.Text, role.WindowText, role.ButtonText):
        made.setColor(QPalette.ColorGroup.Disabled, name, QColor(colours.faint))
    return made
