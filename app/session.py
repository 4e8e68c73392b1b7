"""What is open in the window: up to four configurations, the prompt, and the trace of each. Free of Qt."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.config import RunConfig, from_dict
from core.errors import BadInput
from core.events import INSPECT, MEASURE, RunRequest, Token
from core.files import replacing
from core.quality.results import NeedleMeasured, QualityMeasured
from core.quality.unmodified import same_quality
from core.techniques import neighbours
from core.trace import Trace

MOST_COLUMNS = 4
VERSION = 1
LETTERS = "ABCD"


@dataclass
class Column:
    """One configuration and what it made last. repeats: its measured runs of the last comparison."""

    config: RunConfig = field(default_factory=RunConfig)
    trace: Trace | None = None
    repeats: list[Trace] = field(default_factory=list)

    def measured(self, event: QualityMeasured | NeedleMeasured) -> Trace:
        """Add to the trace of the same configuration; a trace of another one makes room for a new one without a run."""
        if self.trace is None or self.trace.subject is None or not same_quality(self.trace.subject.config, event.config):
            self.trace = Trace()
        self.trace.add(event)
        return self.trace


@dataclass
class Session:
    """The window's content. A file keeps all of it but the traces."""

    columns: list[Column] = field(default_factory=lambda: [Column()])
    prompt: str = ""
    chat: bool = True
    inspect: bool = True
    repeats: int = 5

    @property
    def configs(self) -> tuple[RunConfig, ...]:
        return tuple(column.config for column in self.columns)

    @property
    def traces(self) -> tuple[Trace | None, ...]:
        return tuple(column.trace for column in self.columns)

    def requests(self) -> tuple[RunRequest, ...]:
        """One request a column, of the prompt as it stands."""
        capture = INSPECT if self.inspect else MEASURE
        return tuple(RunRequest(config, self.prompt, self.chat, inspect=capture) for config in self.configs)

    def continuation(self, column: int, position: int, token: int) -> RunRequest:
        """A request that keeps the first `position` tokens of a column's trace and goes on with `token`."""
        trace = self.columns[column].trace
        if trace is None or trace.started is None or not 0 < position <= len(trace.all_tokens):
            raise BadInput(f"configuration {LETTERS[column]} has no token {position} to continue from")
        kept = tuple(known.id for known in trace.all_tokens[:position])
        request = self.requests()[column]
        return dataclasses.replace(request, prompt=trace.started.prompt, chat=trace.started.chat, prompt_tokens=(*kept, token))

    def prompt_tokens(self) -> tuple[Token, ...]:
        """Of the first run that is shown: the exact tokens its model read."""
        return next((trace.prompt_tokens for trace in self.traces if trace is not None), ())

    def add_column(self, config: RunConfig) -> None:
        """One more configuration."""
        if len(self.columns) == MOST_COLUMNS:
            raise BadInput(f"there are {MOST_COLUMNS} configurations already; remove one first")
        self.columns.append(Column(config))

    def remove_column(self, index: int) -> None:
        if len(self.columns) == 1:
            raise BadInput("the last configuration cannot be removed")
        del self.columns[index]

    def use_model(self, model: str, column: int | None = None) -> None:
        """Every configuration, or one, on another model."""
        for index, known in enumerate(self.columns):
            if column in (None, index):
                known.config = dataclasses.replace(known.config, model=model)

    def open_run(self, trace: Trace, beside: bool) -> None:
        """A recorded run in place of A, or in a column of its own."""
        kept = self.columns if beside else self.columns[1:]
        if len(kept) == MOST_COLUMNS:
            raise BadInput(f"there are {MOST_COLUMNS} configurations already; remove one first")
        made = Column(trace.subject.config if trace.subject else RunConfig(), trace)
        self.columns = [*kept, made] if beside else [made, *kept]
        if not beside and trace.started is not None:
            self.prompt, self.chat = trace.started.prompt, trace.started.chat

    def show(self, traces: list[Trace]) -> None:
        """Recorded runs in place of what is open; their prompt and configurations come with them."""
        self.columns = [Column(trace.subject.config if trace.subject else RunConfig(), trace) for trace in traces]
        started = traces[0].started
        if started is not None:
            self.prompt, self.chat = started.prompt, started.chat

    def to_dict(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {"version": VERSION, **plain, "configs": [config.to_dict() for config in self.configs]}

    def save(self, path: Path) -> None:
        """Write the session file, whole or not at all."""
        with replacing(path, "w") as file:
            json.dump(self.to_dict(), file, indent=2)


_PLAIN: dict[str, type] = {"prompt": str, "chat": bool, "inspect": bool, "repeats": int}


def read(path: Path) -> Session:
    """Read a session file; BadInput says what is wrong with it and where."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadInput(f"{path}: not a readable session file: {error}") from None
    try:
        return _session(data)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def _session(data: Any) -> Session:
    if not isinstance(data, Mapping) or data.get("version") != VERSION:
        raise BadInput(f"not a session file of version {VERSION}")
    known = {"version", "configs", *_PLAIN}
    for key in data:
        if key not in known:
            raise BadInput(f"there is no field {key!r}; {neighbours(key, known)}")
    configs = data.get("configs")
    if not isinstance(configs, list) or not 1 <= len(configs) <= MOST_COLUMNS:
        raise BadInput(f"configs: expected a list of 1 to {MOST_COLUMNS} configurations")
    plain = {name: _plain(data, name, kind) for name, kind in _PLAIN.items() if name in data}
    return Session([Column(from_dict(config)) for config in configs], **plain)


def _plain(data: Mapping[str, Any], name: str, kind: type) -> Any:
    value = data[name]
    if type(value) is not kind:
        raise BadInput(f"{name}: {value!r} is not of type {kind.__name__}")
    if isinstance(value, int) and not isinstance(value, bool) and not 1 <= value <= 100:
        raise BadInput(f"{name}: {value} is out of range, 1 to 100")
    return value
