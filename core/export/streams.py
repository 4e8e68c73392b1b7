"""The generated text of each configuration, token by token: where each came from, and where the texts part."""

from __future__ import annotations

from collections import Counter

from core.charts.labelled import Labelled
from core.charts.quality import agreement
from core.events import Token
from core.export.elements import Markup, element
from core.export.numbers import shown
from core.trace import Trace

_SOURCES = {
    "sampled": "chosen by the model",
    "drafted": "drafted and accepted",
    "corrected": "in place of a rejected draft",
    "bonus": "on top of an accepted draft",
}


def streams(traces: Labelled) -> Markup:
    """All streams side by side."""
    cards = (_stream(label, trace, _marks(index, traces)) for index, (label, trace) in enumerate(traces))
    cards_row = element("div", *cards, class_="columns")
    return element("section", element("h2", "Output"), cards_row, _legend(traces), class_="output")


def _marks(index: int, traces: Labelled) -> dict[int, str]:
    """Generated index to why it is marked: where this stream first differs from A, or others from it."""
    base = traces[0][1]
    if index:
        found = agreement(base, traces[index][1])
        return {} if found is None or found.first is None else {found.first: f"first token that differs from {traces[0][0]}"}
    places = [(label, agreement(base, trace)) for label, trace in traces[1:]]
    return {found.first: f"{label} differs from here" for label, found in places if found and found.first is not None}


def _stream(label: str, trace: Trace, marks: dict[int, str]) -> Markup:
    pieces = (_token(token, marks.get(index)) for index, token in enumerate(trace.tokens))
    return element(
        "article",
        element("span", label, class_=f"letter column-{label}"),
        element("span", f"  {_ending(trace, marks)}", class_="muted small"),
        element("div", *pieces, class_="stream"),
        class_="card",
    )


def _ending(trace: Trace, marks: dict[int, str]) -> str:
    reason = trace.finished.reason.replace("_", " ") if trace.finished else "failed" if trace.failed else "not finished"
    parts = [f"{len(trace.tokens)} tokens, ended by {reason}" if trace.finished else f"{len(trace.tokens)} tokens, {reason}"]
    return "; ".join(parts + [f"token {index + 1}: {why}" for index, why in sorted(marks.items())])


def _token(token: Token, mark: str | None) -> Markup:
    """One token; its facts are its tool tip."""
    chance = None if token.probability is None else f"p {token.probability:.3f}"
    facts = (repr(token.text), f"id {token.id}", token.source, chance, shown(token.ms, "ms") if token.ms else None, mark)
    classes = f"token {token.source}" + (" first" if mark else "")
    tip = " · ".join(fact for fact in facts if fact)
    share = False if token.probability is None else f"--p:{token.probability:.3f}"
    return element("mark" if mark else "span", token.text, class_=classes, title=tip, style=share)


def _legend(traces: Labelled) -> Markup:
    counts = Counter(token.source for _, trace in traces for token in trace.tokens)
    entries = [_entry(source, text) for source, text in _SOURCES.items() if counts[source]]  # type: ignore[index]
    outlined = [element("span", element("span", class_="swatch first"), "first token that differs")] if len(traces) > 1 else []
    return element("div", *entries, *outlined, *_switch(traces), class_="legend")


def _switch(traces: Labelled) -> tuple[Markup, ...]:
    """Colours tokens by how unlikely they were, where that was captured."""
    if all(token.probability is None for _, trace in traces for token in trace.tokens):
        return ()
    box = element("input", type="checkbox", class_="by-probability")
    return (element("label", box, "colour by probability: the stronger, the less likely", class_="switch"),)


def _entry(source: str, text: str) -> Markup:
    return element("span", element("span", class_=f"swatch token {source}"), text)
