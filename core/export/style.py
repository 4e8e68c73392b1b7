"""The look of the report: one style sheet, dark or light by the reader's system, and its colours."""

from __future__ import annotations

from core.charts.palette import COLUMNS, FAMILIES, SOURCES

_LAYOUT = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--text); font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, \
"Noto Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 24px 64px; }
header { margin-bottom: 24px; }
h1 { font-size: 24px; line-height: 1.25; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 16px; margin: 40px 0 12px; }
h3 { font-size: 14px; margin: 0 0 8px; }
p { margin: 0 0 8px; }
.muted, caption, figcaption { color: var(--muted); }
.small, caption { font-size: 12px; }
a { color: var(--accent); }
pre, .mono, .stream { font-family: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; }
.card { background: var(--panel); border: 1px solid var(--border); border-radius: 8px; padding: 16px; }
.columns { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); }
.letter { display: inline-block; min-width: 24px; padding: 0 8px; border-radius: 6px; color: #fff; font-weight: 600; \
text-align: center; background: var(--column); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(80px, 1fr)); gap: 8px 12px; margin: 12px 0 0; }
.figures dt { color: var(--muted); font-size: 12px; }
.figures dd { margin: 0; font-size: 16px; white-space: nowrap; font-weight: 600; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 8px; }
th, td { text-align: left; padding: 6px 16px 6px 0; border-bottom: 1px solid var(--border); vertical-align: top; }
thead th { color: var(--muted); font-weight: 500; font-size: 12px; vertical-align: bottom; }
tbody th { font-weight: 500; white-space: nowrap; }
tr:last-child > * { border-bottom: 0; }
th.number, .number { text-align: right; white-space: nowrap; }
.interval { color: var(--muted); font-size: 12px; display: block; }
.differs { background: color-mix(in srgb, var(--accent) 12%, transparent); }
.mark { color: var(--accent); font-weight: 600; margin-right: 4px; }
.badge { display: inline-block; border: 1px solid currentColor; border-radius: 999px; padding: 0 8px; font-size: 12px; \
white-space: nowrap; }
.measured { color: var(--good); } .derived { color: var(--accent); } .modelled { color: var(--warning); }
.unavailable { color: var(--muted); }
.stream { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; line-height: 1.75; margin-top: 12px; }
.token { border-radius: 3px; padding: 1px 0; background: var(--tint); }
.output:has(.by-probability:checked) .token { border-bottom: 0; \
background: color-mix(in srgb, var(--accent) calc((1 - var(--p, 1)) * 60%), transparent); }
.drafted { border-bottom: 2px solid var(--drafted); } .corrected { border-bottom: 2px dotted var(--corrected); }
.bonus { border-bottom: 2px double var(--bonus); }
mark { color: inherit; }
.first { outline: 2px solid var(--warning); outline-offset: 1px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 12px; color: var(--muted); margin-top: 12px; }
.swatch { display: inline-block; width: 16px; height: 12px; border-radius: 3px; margin-right: 6px; vertical-align: -1px; }
.switch { font-size: 12px; color: var(--muted); display: inline-flex; align-items: center; gap: 6px; cursor: pointer; }
.figures-grid { display: grid; gap: 16px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 460px), 1fr)); }
figure { margin: 0; min-width: 0; display: flex; flex-direction: column; }
figure.wide { grid-column: 1 / -1; }
figure svg { display: block; width: 100%; height: auto; border-radius: 4px; }
figcaption { font-size: 12px; margin-top: 8px; }
details { margin-top: 8px; }
summary { cursor: pointer; color: var(--accent); font-size: 12px; }
details .scroll { max-height: 420px; overflow: auto; margin-top: 8px; }
figure > .scroll { max-height: 640px; overflow: auto; }
details table { font-size: 12px; }
figure thead th { position: sticky; top: 0; background: var(--panel); }
summary:focus-visible, a:focus-visible, input:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
dl.definitions { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 0; }
dl.definitions dd { margin: 0; }
footer { margin-top: 48px; color: var(--muted); font-size: 12px; }
.dark { display: none; }
@media (prefers-color-scheme: dark) { .light:has(+ .dark) { display: none; } .dark { display: block; } }
@media (max-width: 640px) { main { padding: 16px 12px 48px; } dl.definitions { grid-template-columns: 1fr; } }
@media print { .card { break-inside: avoid; } body { background: #fff; } details:not([open]), .switch { display: none; } \
figure .scroll { max-height: none; } }
"""

_LIGHT = {
    "ground": "#f3f4f7", "panel": "#fafbfc", "border": "#d9dce3", "text": "#1b1f27", "muted": "#586070", "accent": "#4a53d6",
    "good": "#16794f", "warning": "#94650a",
}  # fmt: skip
_DARK = {
    "ground": "#14161a", "panel": "#1a1d22", "border": "#31363f", "text": "#e7e9ee", "muted": "#a0a8b6", "accent": "#7d8bff",
    "good": "#4cc38a", "warning": "#e8b04a",
}  # fmt: skip


def style_sheet() -> str:
    """The whole style sheet."""
    dark = f"@media (prefers-color-scheme: dark) {{ :root {{ {_variables(dark=True)} }} }}"
    return f":root {{ color-scheme: light dark; {_variables(dark=False)} }}\n{dark}\n{_rules()}{_LAYOUT}"


def _variables(dark: bool) -> str:
    tones = {name: tone.on(dark) for name, tone in {**FAMILIES, **SOURCES}.items()}
    letters = {f"column-{style.letter}": style.tone.light for style in COLUMNS}  # white letters stand on them
    return " ".join(f"--{name}: {colour};" for name, colour in {**tones, **letters, **(_DARK if dark else _LIGHT)}.items())


def _rules() -> str:
    """Token sources tint their token; columns colour their letter."""
    tints = (f".{name} {{ --tint: color-mix(in srgb, var(--{name}) 22%, transparent); }}" for name in SOURCES)
    letters = (f".column-{style.letter} {{ --column: var(--column-{style.letter}); }}" for style in COLUMNS)
    return "\n".join((*tints, *letters))
