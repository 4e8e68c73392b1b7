"""Files that only save work: each ends with a digest of its content, and one that is damaged is made again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from core.errors import RunFailed
from core.files import replacing

_DIGEST = hashlib.sha256


def keep(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write `pieces` one after another. A disk that is full or read-only costs doing the work again, and nothing else."""
    digest = _DIGEST()
    with suppress(RunFailed, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            for piece in pieces:
                digest.update(piece)
                file.write(piece)
            file.write(digest.digest())


def kept(path: Path) -> np.ndarray | None:
    """The content, uint8; None where there is no such file, or it is damaged.

    One large piece of memory gets huge pages, which a stream of weights for every token is quicker with than a mapping.
    """
    if not path.exists():
        return None
    content = np.empty(path.stat().st_size, np.uint8)
    with path.open("rb") as file:
        whole = file.readinto(content.data) == len(content)
    end = len(content) - _DIGEST().digest_size
    if not whole or end < 0 or _DIGEST(content[:end].data).digest() != content[end:].tobytes():
        return None
    return content[:end]
