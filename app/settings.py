"""What the window remembers between two starts, in one small JSON file. Free of Qt."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import RunFailed
from core.files import replacing
from core.folders import config_folder

MOST_RECENT = 10
THEMES = ("system", "dark", "light")


@dataclass
class Settings:
    """geometry, layout: the window's place and docks, base64. last_session: path of the session file to open again.

    notice: one sentence for the person when the file could not be read; not stored.
    """

    recent_models: list[str] = field(default_factory=list)  # the latest first
    theme: str = "system"
    last_session: str = ""
    geometry: str = ""
    layout: str = ""
    notice: str = field(default="", compare=False)

    def remember_model(self, name: str) -> None:
        """Put a model at the top of the recent ones."""
        others = [known for known in self.recent_models if known != name]
        self.recent_models = [name, *others][:MOST_RECENT]

    def save(self) -> None:
        """Write the settings; RunFailed says why they cannot be."""
        path = settings_file()
        stored = {name: getattr(self, name) for name in _STORED}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFailed(f"{path}: settings cannot be kept: {(error.strerror or str(error)).lower()}") from None
        with replacing(path, "w") as file:
            json.dump(stored, file, indent=2)


_STORED = {known.name: known for known in dataclasses.fields(Settings) if known.name != "notice"}


def settings_file() -> Path:
    return config_folder() / "settings.json"


def read() -> Settings:
    """The stored settings, or fresh ones. A file that cannot be understood is moved aside and the `notice` says so."""
    path = settings_file()
    try:
        return _settings(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        return Settings(notice=f"{path}: settings cannot be read: {(error.strerror or str(error)).lower()}")
    except ValueError as error:
        return Settings(notice=_moved_aside(path, error))


def _settings(data: Any) -> Settings:
    """Fields that a later version wrote are left out; ValueError when a known one does not fit."""
    if not isinstance(data, Mapping):
        raise ValueError("not an object")
    known = {name: value for name, value in data.items() if name in _STORED}
    for name, value in known.items():
        if not _fits(name, value):
            raise ValueError(f"{name} is {value!r}")
    return Settings(**known)


def _fits(name: str, value: Any) -> bool:
    if name == "recent_models":
        return isinstance(value, list) and all(isinstance(model, str) for model in value)
    return value in THEMES if name == "theme" else isinstance(value, str)


def _moved_aside(path: Path, error: ValueError) -> str:
    aside = path.with_name(f"{path.stem}-damaged-{time.strftime('%Y%m%d-%H%M%S')}{path.suffix}")
    try:
        path.replace(aside)
    except OSError as reason:
        return f"{path}: damaged ({error}), and cannot be moved aside: {reason.strerror}"
    return f"the settings were damaged ({error}); they are kept as {aside}, and the window starts with fresh ones"
