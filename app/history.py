"""Every finished run, kept in SQLite with its trace in a file of its own. Free of Qt."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import trace_file
from core.errors import BadInput, RunFailed
from core.events import RunFinished
from core.folders import data_folder
from core.quality.figures import figures
from core.trace import Trace
from core.trace_file import Progress, unwatched

VERSION = 1
KEY_METRICS = ("ttft_ms", "tpot_ms", "decode_tokens_per_s", "prompt_tokens", "new_tokens", "peak_memory_bytes")
QUALITY = ("perplexity", "perplexity_ratio", "mean_kl", "same_top1")  # of the text that was measured last
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, time REAL NOT NULL, model TEXT NOT NULL, prompt TEXT NOT NULL, text TEXT NOT NULL,
    config TEXT NOT NULL, metrics TEXT NOT NULL, trace TEXT NOT NULL
)
"""


@dataclass(frozen=True)
class Entry:
    """One kept run. time: seconds since 1970. config: as RunConfig.to_dict. trace: its file.

    metrics: those of KEY_METRICS, and what has been measured of QUALITY and `needle_recall`.
    """

    id: int
    time: float
    model: str
    prompt: str
    text: str
    config: dict[str, Any]
    metrics: dict[str, float | None]
    trace: Path


class History:
    """The runs kept in `folder`. Each call opens the database for itself, so any thread and any process may call."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or data_folder()
        self._file = self._folder / "history.sqlite"
        self._traces = self._folder / "traces"
        self.notice = ""  # one sentence for the person when the database was damaged
        self._prepare()

    def add(self, trace: Trace) -> int:
        """Keep a finished run; its id. Raises RunFailed when it cannot be written."""
        if trace.started is None or trace.finished is None:
            raise ValueError("only a finished run is kept")
        path = self._traces / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}.trace"
        trace_file.save(trace, path)
        plain = (json.dumps(trace.started.config.to_dict()), json.dumps(_metrics(trace, trace.finished)), path.name)
        row = (time.time(), trace.started.info.name, trace.started.prompt, trace.finished.text, *plain)
        try:
            with self._open() as database:
                columns = "time, model, prompt, text, config, metrics, trace"
                cursor = database.execute(f"INSERT INTO runs ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        except RunFailed:
            path.unlink(missing_ok=True)
            raise
        return int(cursor.lastrowid or 0)

    def update(self, id_: int, trace: Trace) -> None:
        """Keep what a run has gained since; nothing of one that was deleted. Raises RunFailed when it cannot be written."""
        try:
            path = self._find(id_).trace
        except BadInput:
            return
        if trace.finished is None:
            raise ValueError("only a finished run is kept")
        trace_file.save(trace, path)
        with self._open() as database:
            database.execute("UPDATE runs SET metrics = ? WHERE id = ?", (json.dumps(_metrics(trace, trace.finished)), id_))

    def search(self, text: str = "", most: int = 200) -> list[Entry]:
        """The latest runs whose model, prompt, text or configuration hold every word of `text`."""
        words = text.split()
        where = " AND ".join([r"(model || ' ' || prompt || ' ' || text || ' ' || config) LIKE ? ESCAPE '\'"] * len(words))
        query = f"SELECT * FROM runs {'WHERE ' + where if words else ''} ORDER BY time DESC, id DESC LIMIT ?"
        with self._open() as database:
            return [self._entry(row) for row in database.execute(query, (*map(_pattern, words), most))]

    def open(self, id_: int, progress: Progress = unwatched) -> Trace:
        """The recorded run. Raises BadInput when there is none, or its file is gone or damaged."""
        return trace_file.load(self._find(id_).trace, progress)

    def delete(self, id_: int) -> None:
        """Forget a run and remove its file. Raises BadInput when there is none."""
        entry = self._find(id_)
        with self._open() as database:
            database.execute("DELETE FROM runs WHERE id = ?", (id_,))
        entry.trace.unlink(missing_ok=True)

    def _find(self, id_: int) -> Entry:
        with self._open() as database:
            row = database.execute("SELECT * FROM runs WHERE id = ?", (id_,)).fetchone()
        if row is None:
            raise BadInput(f"the history has no run {id_}")
        return self._entry(row)

    def _entry(self, row: sqlite3.Row) -> Entry:
        plain = {name: row[name] for name in ("id", "time", "model", "prompt", "text")}
        return Entry(
            **plain, config=json.loads(row["config"]), metrics=json.loads(row["metrics"]), trace=self._traces / row["trace"]
        )

    def _prepare(self) -> None:
        """Make the folder and the table; a damaged database is moved aside, its traces stay."""
        try:
            self._traces.mkdir(parents=True, exist_ok=True)
            self._set_up()
        except OSError as error:
            raise RunFailed(f"{self._folder}: the history cannot be kept: {(error.strerror or str(error)).lower()}") from None
        except sqlite3.OperationalError as error:
            raise self._failure(error) from None
        except sqlite3.DatabaseError as error:
            aside = self._file.with_name(f"history-damaged-{time.strftime('%Y%m%d-%H%M%S')}.sqlite")
            self._file.replace(aside)
            self.notice = f"the history was damaged ({error}); it is kept as {aside}, and a new one begins"
            self._set_up()

    def _set_up(self) -> None:
        with closing(self._connect()) as database, database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise sqlite3.OperationalError(f"it has version {version}, and this program reads up to {VERSION}")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(_SCHEMA)
            database.execute(f"PRAGMA user_version = {VERSION}")

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._file, timeout=5.0)
        database.row_factory = sqlite3.Row
        return database

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction."""
        try:
            with closing(self._connect()) as database, database:
                yield database
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def _failure(self, error: sqlite3.Error) -> RunFailed:
        return RunFailed(f"{self._file}: the history cannot be used: {error}")


def _metrics(trace: Trace, finished: RunFinished) -> dict[str, float | None]:
    """What an entry shows."""
    kept = {name: finished.metrics.get(name) for name in KEY_METRICS}
    if trace.quality:
        found = figures(trace.quality[-1].segments)
        kept |= {name: found[name] for name in QUALITY}
    if trace.needles:
        kept["needle_recall"] = float(trace.needles[-1].recall.mean())
    return kept


def _pattern(word: str) -> str:
    escaped = word.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"
