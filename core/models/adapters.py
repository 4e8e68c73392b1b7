"""Files of what was trained for one model: where they lie, and to which model they belong. Free of torch."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from core.errors import BadInput
from core.folders import cache_folder
from core.models.info import ModelInfo
from core.models.safetensors_header import read_header

_SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "adapters"
_EDGE = 2**20  # bytes that are read at each end of a file of weights


def adapter_of(technique: str, info: ModelInfo, chosen: str = "") -> Path:
    """The file that `technique` needs with a model: the `chosen` one, or the one that was trained for the model.

    Raises BadInput when there is none, and says how to train one.
    """
    if chosen:
        path = Path(chosen).expanduser()
        if not path.is_file():
            raise BadInput(f"attention.adapter={chosen}: there is no such file")
        return path
    if (found := found_adapter(technique, info)) is not None:
        return found
    raise BadInput(
        f"nothing is trained for {info.name} yet; train it with: inference-playground distill {technique} --model {info.path}"
    )


def found_adapter(technique: str, info: ModelInfo) -> Path | None:
    """The file that was trained for a model on this machine, else the shipped one, else None."""
    name = adapter_name(technique, info)
    return next((folder / name for folder in (trained_folder(), _SHIPPED) if (folder / name).is_file()), None)


def adapter_name(technique: str, info: ModelInfo) -> str:
    """The name of the file that belongs to `technique` with a model, wherever the model lies."""
    path = Path(info.path)
    files = tuple(sorted(path.glob("*.safetensors"))) if path.is_dir() else (path,)
    stamps = tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file())
    return f"{technique}-{_fingerprint(stamps)}.safetensors"


def trained_folder() -> Path:
    """Where what was trained on this machine is kept."""
    return cache_folder() / "adapters"


def features_of(info: ModelInfo, chosen: str) -> int:
    """How many features each head has in the feature maps for a model; 0 while there are none."""
    try:
        entries = read_header(adapter_of("linear_learned", info, chosen))
    except BadInput:
        return 0
    return next((entry.shape[-1] for name, entry in entries.items() if name.endswith("key_biases")), 0)


@lru_cache(maxsize=32)
def _fingerprint(stamps: tuple[tuple[Path, int, int], ...]) -> str:
    """Of files by size and by what stands at both ends of them; a change of time only makes it be computed again."""
    digest = hashlib.sha256()
    for file, size, _ in stamps:
        digest.update(size.to_bytes(8, "little"))
        with file.open("rb") as opened:
            digest.update(opened.read(_EDGE))
            opened.seek(max(0, size - _EDGE))
            digest.update(opened.read(_EDGE))
    return digest.hexdigest()[:16]
