"""A trace as a file: a zip of `trace.json` (the events as columns) and `arrays.bin` (their numbers)."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import numpy as np

from core.columns import Blob, Fault, Stored, decode, encode
from core.errors import BadInput
from core.events import AttentionCaptured, CacheChanged, Event, QualityEvent, RoutingCaptured, RunEvent, Step, Token
from core.files import replacing
from core.quality.results import NeedleMeasured, QualityMeasured
from core.trace import Trace, record

FORMAT, VERSION = "inference-playground trace", 1
_KINDS: dict[str, type] = {kind.__name__: kind for kind in get_args(RunEvent | QualityEvent)}
_LARGEST = {"trace.json": 2**30, "arrays.bin": 2**31}  # bytes unpacked; a file that claims more is not ours
_WORTH_PACKING = 2**24  # bytes: more is attention and alternatives, which pack to 0.7 and more slowly than disks write
_AT_ONCE = 2**22  # bytes read between two words of progress

Progress = Callable[[float], None]  # the share done, 0 … 1; may raise to give up


def save(trace: Trace, path: Path) -> None:
    """Write `trace`; `load` gives an equal one. Raises RunFailed when the file cannot be written."""
    groups: dict[str, list[Event]] = defaultdict(list)
    for event in trace.events():
        groups[type(event).__name__].append(event)
    blob = Blob()
    events = {name: {"count": len(rows), "fields": encode(_KINDS[name], rows, blob)} for name, rows in groups.items()}
    text = json.dumps({"format": FORMAT, "version": VERSION, "events": events}, separators=(",", ":"))
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        _write(archive, "trace.json", [text.encode()])
        archive.compression = zipfile.ZIP_DEFLATED if blob.size < _WORTH_PACKING else zipfile.ZIP_STORED
        _write(archive, "arrays.bin", blob.parts)


def unwatched(_share: float) -> None:
    """Progress that nobody watches."""


def load(path: Path, progress: Progress = unwatched) -> Trace:
    """Read a saved trace. Raises BadInput naming the file and what is wrong with it, and what `progress` raises."""
    try:
        with zipfile.ZipFile(path) as archive:
            text, data = (_read(archive, name, progress) for name in _LARGEST)
        return record(_events(json.loads(bytes(text)), Stored(data), progress))
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file") from None
    except zipfile.BadZipFile as error:
        raise BadInput(f"{path}: not a trace, or only part of one: {error}") from None
    except (EOFError, OSError, zlib.error, RuntimeError, MemoryError) as error:
        raise BadInput(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except (BadInput, ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{path}: the trace is damaged: {error}") from None


def _write(archive: zipfile.ZipFile, name: str, parts: Iterable[bytes]) -> None:
    with archive.open(name, "w", force_zip64=True) as member:
        for part in parts:
            member.write(part)


def _read(archive: zipfile.ZipFile, name: str, progress: Progress) -> memoryview:
    """The member's bytes, which is the first half of the work."""
    if name not in archive.namelist():
        raise Fault(f"it holds no {name}")
    entry = archive.getinfo(name)
    if entry.file_size > _LARGEST[name] or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Fault(f"{name} is packed in a way this program does not write")
    data, at = np.empty(entry.file_size, np.uint8).data, 0  # filling zeros in first would hold up every thread
    with archive.open(entry) as member:
        while part := member.read(_AT_ONCE):
            data[at : at + len(part)] = part
            at += len(part)
            progress(at / entry.file_size / 2 if name == "arrays.bin" else 0.0)
    if at < entry.file_size:
        raise Fault(f"{name} ends after {at} of {entry.file_size} bytes")
    return data.toreadonly()


def _events(document: Any, blob: Stored, progress: Progress) -> Iterable[Event]:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise Fault(f"trace.json does not say format {FORMAT!r}")
    if document.get("version") != VERSION:
        raise Fault(f"it has version {document.get('version')!r} of the format; this program reads version {VERSION}")
    groups = document.get("events")
    if not isinstance(groups, dict) or not groups.keys() <= _KINDS.keys():
        raise Fault(f"its events are not among {', '.join(_KINDS)}")
    for index, (name, kind) in enumerate(_KINDS.items()):
        progress(0.5 + index / len(_KINDS) / 2)
        if name in groups:
            yield from _group(kind, groups[name], blob)


def _group(kind: type, group: Any, blob: Stored) -> Iterable[Event]:
    if not isinstance(group, dict) or type(group.get("count")) is not int or group["count"] < 0:
        raise Fault(f"{kind.__name__} has no count")
    for event in decode(kind, group.get("fields"), group["count"], blob):
        _check(event)
        yield event


def _check(event: Event) -> None:
    """Shapes that views rely on."""
    match event:
        case Step():
            for token in event.tokens:
                _check_token(token)
        case AttentionCaptured():
            if event.weights.ndim != 3 or event.key_positions.shape != event.weights.shape[2:] or event.first_query < 0:
                raise Fault("an attention map is not [heads, queries, keys] with a position a key")
            if event.mass is not None and event.mass.shape != event.weights.shape[:2]:
                raise Fault("the attention mass kept is not [heads, queries] of its map")
        case CacheChanged():
            if event.positions.ndim != 2 or (event.layers.shape, event.bits.shape) != _sides(event.positions):
                raise Fault("a picture of the cache is not [rows, slots] with a layer a row and bits a slot")
        case RoutingCaptured():
            if event.experts.ndim != 2 or event.experts.shape != event.weights.shape or not _are_experts(event):
                raise Fault("a routing map is not [tokens, experts] with a weight each")
        case NeedleMeasured():
            if not event.recall.shape == event.log_probability.shape == (len(event.depths), len(event.lengths)):
                raise Fault("a needle grid is not [depths, lengths]")
        case QualityMeasured():
            if not event.segments or min(segment.tokens for segment in event.segments) < 1:
                raise Fault("a quality measurement has no tokens")


def _sides(table: np.ndarray) -> tuple[tuple[int], tuple[int]]:
    return (table.shape[0],), (table.shape[1],)


def _are_experts(event: RoutingCaptured) -> bool:
    chosen = event.experts
    known = chosen.dtype.kind in "iu" and 0 < event.expert_count < 2**16
    return known and (not chosen.size or (chosen.min() >= 0 and chosen.max() < event.expert_count))


def _check_token(token: Token) -> None:
    ids, shares = token.top_ids, token.top_probabilities
    if (ids is None) != (shares is None) or (
        ids is not None and shares is not None and not ids.shape == shares.shape == (ids.size,)
    ):
        raise Fault("the alternatives of a token are not ids with a probability each")
