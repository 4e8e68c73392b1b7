"""Prompts that show something: written for this program, kept in assets/prompts.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "assets" / "prompts.json"


@dataclass(frozen=True)
class Sample:
    """A prompt and the settings under which it shows what it is for."""

    name: str
    shows: str
    prompt: str
    chat: bool
    max_new_tokens: int


def samples() -> tuple[Sample, ...]:
    """All of them, in the order of the menu."""
    return tuple(Sample(**row) for row in json.loads(FILE.read_text(encoding="utf-8")))
