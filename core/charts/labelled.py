"""What chart builders share: traces with the letter of their configuration, token labels, notes on timings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.charts.palette import COLUMNS
from core.config import RunConfig
from core.events import Token
from core.techniques import CATALOGUE, DEFAULTS
from core.trace import Trace

Labelled = Sequence[tuple[str, Trace]]


def column_of(label: str, index: int) -> int:
    """The column of a configuration by its letter, else by its place among the traces given."""
    letters = [style.letter for style in COLUMNS]
    return letters.index(label) if label in letters else index


def columns(traces: Labelled) -> Iterator[tuple[str, int, Trace]]:
    """Label, column and trace of each."""
    return ((label, column_of(label, index), trace) for index, (label, trace) in enumerate(traces))


def token_label(index: int, token: Token) -> str:
    """Position and text of a token, as rows and columns of a map are named; text of white space alone is spelled out."""
    text = token.text.strip(" ") if token.text.strip() else token.text.replace(" ", "␣")
    return f"{index} {text or '∅'}"


class _TokenLabels:
    """One a token, each made once."""

    def __init__(self) -> None:
        self.labels: list[str] = []

    def take(self, trace: Trace) -> None:
        known, prompt = len(self.labels), trace.prompt_tokens
        new = (*prompt[known:], *trace.tokens[max(0, known - len(prompt)) :])
        self.labels += (token_label(index, token) for index, token in enumerate(new, known))


def token_labels(trace: Trace) -> tuple[str, ...]:
    """Entry i names the token at position i."""
    return tuple(trace.follow(_TokenLabels).labels)


def prefix(traces: Labelled, label: str) -> str:
    """`A: ` where several configurations are shown, else nothing."""
    return f"{label}: " if len(traces) > 1 else ""


def special(config: RunConfig) -> str:
    """The techniques that are not the default ones, with their options."""
    chosen = [config.choice(family) for family in CATALOGUE]
    words = [f"{one.family} {options_text(one.to_dict())}" for one in chosen if one.name != DEFAULTS[one.family]]
    return "; ".join(words) or "as the model is: every technique at its default"


def options_text(options: Mapping[str, Any]) -> str:
    """`window · window=256 layers=all`."""
    name = options.get("name")
    rest = " ".join(f"{key}={value}" for key, value in options.items() if key != "name" and value != "")
    return " · ".join(part for part in (name, rest) if part)


def capture_notes(traces: Labelled) -> tuple[str, ...]:
    """Which runs were timed while capturing, and what: capturing costs time, only part of which is the phase `capture`."""
    by_kind: dict[str, list[str]] = {}
    for label, trace in traces:
        by_kind.setdefault(_captured(trace), []).append(label)
    return tuple(
        f"{f'{_listed(labels)} timed' if len(traces) > 1 else 'timed'} while capturing {what}, which costs time"
        for what, labels in by_kind.items()
        if what
    )


def _listed(words: Sequence[str]) -> str:
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else "".join(words)


def counted(count: int, noun: str) -> str:
    """`1 token`, `2 tokens`, `2 queries`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}es" if noun.endswith("ss") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


def _captured(trace: Trace) -> str:
    if trace.started is None:
        return ""
    inspect = trace.started.inspect
    kinds = {
        "attention": bool(inspect.attention_layers),
        "routing": inspect.routing,
        f"the {inspect.top} likeliest tokens": inspect.top > 0,
    }
    return _listed([kind for kind, on in kinds.items() if on])


def ending_notes(traces: Labelled) -> tuple[str, ...]:
    """For each run that is not a whole one: that it goes on, was stopped, or failed."""
    return tuple(prefix(traces, label) + note for label, trace in traces if (note := _ending(trace)))


def _ending(trace: Trace) -> str:
    if trace.failed is not None:
        return f"the run failed: {trace.failed.message}"
    if trace.finished is None:
        return "the run is not finished" if trace.live else ""
    return "the run was stopped" if trace.finished.reason == "stopped" else ""
