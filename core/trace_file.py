"""A trace as a file: a zip of `trace.json` (the events as columns) and `arrays.bin` (their numbers)."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from core.columns import Blob, Fault, Stored, decode, encode
from core.errors import BadInput
from core.events import AttentionCaptured, Event, RoutingCaptured, RunEvent, Step, Token
from core.files import replacing
from core.trace import Trace, record

FORMAT, VERSION = "inference-playground trace", 1
_KINDS: dict[str, type] = {kind.__name__: kind for kind in get_args(RunEvent)}
_LARGEST = {"trace.json": 2**30, "arrays.bin": 2**31}  # bytes unpacked; a file that claims more is not ours


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
        _write(archive, "arrays.bin", blob.parts)


def load(path: Path) -> Trace:
    """Read a saved trace. Raises BadInput naming the file and what is wrong with it."""
    try:
        with zipfile.ZipFile(path) as archive:
            text, data = (_read(archive, name) for name in _LARGEST)
        return record(_events(json.loads(text), Stored(data)))
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


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.namelist():
        raise Fault(f"it holds no {name}")
    entry = archive.getinfo(name)
    if entry.file_size > _LARGEST[name] or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Fault(f"{name} is packed in a way this program does not write")
    return archive.read(entry)


def _events(document: Any, blob: Stored) -> Iterable[Event]:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise Fault(f"trace.json does not say format {FORMAT!r}")
    if document.get("version") != VERSION:
        raise Fault(f"it has version {document.get('version')!r} of the format; this program reads version {VERSION}")
    groups = document.get("events")
    if not isinstance(groups, dict) or not groups.keys() <= _KINDS.keys():
        raise Fault(f"its events are not among {', '.join(_KINDS)}")
    for name, kind in _KINDS.items():
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
        case RoutingCaptured():
            if event.experts.ndim != 2 or event.experts.shape != event.weights.shape or not _are_experts(event):
                raise Fault("a routing map is not [tokens, experts] with a weight each")


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
