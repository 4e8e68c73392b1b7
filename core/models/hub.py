"""Models by hub id, through Hugging Face's own client and its cache."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from core.errors import BadInput, RunFailed

# Weights, configuration and tokenizer: never pickles, never code.
_PATTERNS = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model"]


def hub_snapshot(name: str, progress: Callable[[str, int, int], None] | None) -> Path:
    """The folder of hub model `name`: from the cache only when `progress` is None, else fetched where it is missing.

    progress may be called from other threads, one at a time. Raises BadInput when there is no such model or it is not open to
    this account, RunFailed when the hub is out of reach.
    """
    from huggingface_hub import errors, snapshot_download

    options: dict[str, Any] = {"local_files_only": True} if progress is None else {"tqdm_class": _watched(progress)}
    try:
        return Path(snapshot_download(name, allow_patterns=_PATTERNS, **options))
    except errors.HFValidationError:
        raise BadInput(f"{name}: neither a file or folder on this machine nor a hub id owner/name") from None
    except errors.GatedRepoError:
        raise BadInput(f"{name}: its owner lets only some accounts fetch it; ask on its page, then hf auth login") from None
    except errors.RepositoryNotFoundError:
        raise BadInput(f"{name}: no such folder on this machine and no such public model on the hub") from None
    except Exception as error:
        if not _of_the_network(error):
            raise
        if progress is None:
            raise BadInput(f"{name}: not on this machine yet; inference-playground models fetch {name}") from None
        raise RunFailed(f"{name}: not on this machine, and the hub cannot be reached ({_first_line(error)})") from None


def _of_the_network(error: Exception) -> bool:
    """The client lets errors of its HTTP library through, whose name changes with its version."""
    return isinstance(error, OSError) or type(error).__module__.startswith("httpx")


def _first_line(error: Exception) -> str:
    lines = str(error.__cause__ or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _watched(progress: Callable[[str, int, int], None]) -> type:
    """A progress bar that draws nothing and reports bytes to `progress`."""
    from huggingface_hub.utils.tqdm import tqdm

    lock = Lock()

    class Watched(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "file": io.StringIO(), "disable": False})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            done: bool | None = super().update(n)
            if self.unit == "B" and self.total:
                with lock:
                    progress("downloading", int(self.n), int(self.total))
            return done

    return Watched
