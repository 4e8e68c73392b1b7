"""From tokens to text as it streams: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Callable, Sequence

BytesOf = Callable[[int], bytes]


class StopStrings:
    """Holds back text that may be the beginning of a stop string, and ends at the first whole one."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(filter(None, strings))
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """What of the held and the new text may be shown; nothing of a stop string and what follows it."""
        self._held += text
        places = [place for place in map(self._held.find, self._strings) if place >= 0]
        if places:
            self.found = True
            shown, self._held = self._held[: min(places)], ""
            return shown
        keep = max((_overlap(self._held, string) for string in self._strings), default=0)
        shown = self._held[: len(self._held) - keep]
        self._held = self._held[len(shown) :]
        return shown

    def rest(self) -> str:
        """The held-back text, once it is known that no stop string follows."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, string: str) -> int:
    """Length of the longest end of `text` that begins `string`."""
    return next((n for n in range(min(len(text), len(string) - 1), 0, -1) if text.endswith(string[:n])), 0)


class TextStream:
    """The visible text of a run, one token at a time. A character that the run left unfinished is never shown."""

    def __init__(self, bytes_of: BytesOf, stop: str) -> None:
        self._bytes_of = bytes_of
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._stop = StopStrings(stop.split("|"))
        self.text = ""

    @property
    def stopped(self) -> bool:
        """Whether a stop string came."""
        return self._stop.found

    def feed(self, token: int) -> str:
        """The text that became final with `token`."""
        return self._show(self._stop.feed(self._decoder.decode(self._bytes_of(token))))

    def finish(self) -> str:
        """What was held back in case it began a stop string."""
        return self._show(self._stop.rest())

    def _show(self, text: str) -> str:
        self.text += text
        return text
