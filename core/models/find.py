"""From the name a person gives to a model on this machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.errors import BadInput
from core.models import gguf_file, safetensors_folder
from core.models.checkpoint import Checkpoint
from core.models.default import DEFAULT_FILE, default_path, fetch_default, is_fetched, model_folder
from core.models.gguf_file import GgufCheckpoint
from core.models.hub import hub_snapshot
from core.models.info import ModelInfo
from core.models.safetensors_folder import PICKLES, SafetensorsCheckpoint

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Available:
    """A model on this machine: what to call it and where it lies."""

    name: str
    path: Path


def silent(_stage: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


def resolve(name: str, progress: Callable[[str, int, int], None] = silent) -> Path:
    """The `.gguf` file or folder that `name` stands for, fetched first when it is `default` or a hub id not here yet.

    progress(stage, done, total) may raise to cancel. Raises BadInput when there is no such model, RunFailed when a fetch fails.
    """
    if name == "default":
        return default_path() if is_fetched() else fetch_default(progress)
    if is_hub_id(name):
        return hub_snapshot(name, progress)
    return _local(name)


def locate(name: str) -> Path:
    """As `resolve`, but only what is on this machine already: nothing is fetched."""
    if name == "default":
        if not is_fetched():
            raise BadInput("the default model is not fetched yet: inference-playground models fetch default")
        return default_path()
    if is_hub_id(name):
        return hub_snapshot(name, None)
    return _local(name)


def describe(name: str) -> ModelInfo:
    """What is known of a model on this machine from its headers alone; quick, and free of torch."""
    path = locate(name)
    return safetensors_folder.describe(path) if path.is_dir() else gguf_file.describe(path)


def open_checkpoint(name: str, progress: Callable[[str, int, int], None] = silent) -> Checkpoint:
    """The weights of the model that `name` stands for, fetched first where that is needed."""
    path = resolve(name, progress)
    return SafetensorsCheckpoint(path) if path.is_dir() else GgufCheckpoint(path)


def available() -> list[Available]:
    """The models in the cache folder, the default one first."""
    folder = model_folder()
    found = [Available("default", default_path())] if is_fetched() else []
    if not folder.is_dir():
        return found
    files = [path for path in sorted(folder.glob("*.gguf")) if path.name != DEFAULT_FILE]
    folders = [path.parent for path in sorted(folder.glob("*/config.json"))]
    return found + [Available(str(path), path) for path in (*files, *folders)]


def is_hub_id(name: str) -> bool:
    """Whether `name` reads as `owner/name` and is nothing on this machine's disk."""
    is_file_name = name.lower().endswith((".gguf", ".safetensors", *PICKLES))
    return _HUB_ID.fullmatch(name) is not None and not name.startswith(".") and not is_file_name and not Path(name).exists()


def _local(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_dir():
        return _folder(path)
    suffix = path.suffix.lower()
    if suffix in PICKLES:
        raise BadInput(f"{path}: this is a pickle, and loading one runs whatever code it holds; use safetensors or GGUF")
    if not path.exists():
        raise BadInput(f"{name}: no such file or folder; a model is a folder, a .gguf file, default or a hub id owner/name")
    if suffix == ".safetensors":
        raise BadInput(f"{path}: open the folder that holds it, together with its config.json and tokenizer")
    if suffix != ".gguf":
        raise BadInput(f"{path}: not a model; a model is a folder with safetensors files or a .gguf file")
    return path


def _folder(path: Path) -> Path:
    """The folder itself, or the one GGUF file in it when it holds nothing else to load."""
    files = sorted(path.glob("*.gguf"))
    if files and not any(path.glob("*.safetensors")):
        if len(files) > 1:
            raise BadInput(f"{path}: holds {len(files)} GGUF files; name one of them, such as {files[0].name}")
        return files[0]
    return path
