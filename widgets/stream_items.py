"""What a stream shows, in order: prompt tokens, generated tokens and, when asked for, the drafts that were rejected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from core.events import Token
from core.trace import Trace

_BYTES = re.compile(r"(?:\\x[0-9a-fA-F]{2})+")


class Item(NamedTuple):
    """position: in the sequence; -1 for a rejected draft, which never entered it."""

    token: Token
    position: int

    @property
    def rejected(self) -> bool:
        return self.position < 0


class StreamItems:
    """Follows a growing trace; each `pull` costs what is new in it."""

    def __init__(self, trace: Trace | None, show_rejected: bool = False) -> None:
        self._trace = trace
        self._show_rejected = show_rejected
        self._generated = 0
        self.prompt = 0  # prompt tokens taken in
        self.items: list[Item] = []
        self.item_at: list[int] = []  # item index of each position

    def pull(self) -> Iterator[Item]:
        """Take in and yield what the trace gained."""
        if self._trace is None:
            return
        for item in self._new(self._trace):
            if not item.rejected:
                self.item_at.append(len(self.items))
            self.items.append(item)
            yield item

    def _new(self, trace: Trace) -> Iterator[Item]:
        for token in trace.prompt_tokens[self.prompt :]:
            self.prompt += 1
            yield Item(token, self.prompt - 1)
        while self._generated < len(trace.tokens):
            token = trace.tokens[self._generated]
            if self._show_rejected and token.round is not None:
                if token.round >= len(trace.rounds) and trace.live:
                    return  # its round, with what was rejected, is told by the next event
                if token.source in ("corrected", "bonus") and token.round < len(trace.rounds):
                    drafted = trace.rounds[token.round]
                    yield from (Item(draft, -1) for draft in drafted.drafted[drafted.accepted :])
            self._generated += 1
            yield Item(token, self.prompt + self._generated - 1)


class Divergence:
    """Follows where `trace` first generates another token than `reference`."""

    def __init__(self, trace: Trace | None, reference: Trace | None) -> None:
        self._trace = trace
        self._reference = reference if reference is not trace else None
        self.equal = 0  # generated tokens compared and found equal
        self.index: int | None = None  # of the first generated token that differs

    @cached_property
    def _same_prompt(self) -> bool:
        """Asked only once both runs have started: their prompts stay as they are from then on."""
        ours, theirs = (side.prompt_tokens if side is not None else () for side in (self._trace, self._reference))
        return len(ours) == len(theirs) and all(a.id == b.id for a, b in zip(ours, theirs))

    @property
    def comparable(self) -> bool:
        """Whether there is another run on the same prompt to compare with."""
        if self._trace is None or self._reference is None or self._reference.started is None or self._trace.started is None:
            return False
        return self._same_prompt

    def update(self) -> None:
        """Compare on from where the last update stopped."""
        if self._trace is None or self._reference is None or self.index is not None or not self.comparable:
            return
        ours, theirs = self._trace.tokens, self._reference.tokens
        while self.equal < min(len(ours), len(theirs)):
            if ours[self.equal].id != theirs[self.equal].id:
                self.index = self.equal
                return
            self.equal += 1


def plain_text(tokens: Iterable[Token]) -> str:
    """The text of `tokens`, with characters that are spread over byte tokens put together again."""
    parts: list[str] = []
    pending = b""
    for token in tokens:
        if _BYTES.fullmatch(token.text):
            pending += bytes.fromhex(token.text.replace("\\x", ""))
            continue
        parts += [pending.decode("utf-8", "replace"), token.text]
        pending = b""
    return "".join([*parts, pending.decode("utf-8", "replace")])


def visible(text: str) -> str:
    """A token's text with its blanks made visible: `␣the`, `↵`, `⇥`."""
    return text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥").replace("\r", "␍") or "(empty)"


def spoken_token(item: Item) -> str:
    """One sentence about a token, for assistive technology."""
    token = item.token
    place = "rejected draft" if item.rejected else f"position {item.position}"
    known = [f"probability {token.probability:.1%}"] if token.probability is not None else []
    known += [f"entropy {token.entropy:.2f} nats"] if token.entropy is not None else []
    known += [f"{token.ms:.1f} milliseconds"] if token.source != "prompt" and not item.rejected else []
    return ", ".join([f"token {visible(token.text)}", f"id {token.id}", place, token.source, *known])
