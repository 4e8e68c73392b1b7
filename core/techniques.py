"""The catalogue of every technique, by family. Free of torch, so the window can list it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from core.attention.table import TECHNIQUES as ATTENTION
from core.cache.table import TECHNIQUES as CACHE
from core.decoding.table import TECHNIQUES as DECODING
from core.engine.table import TECHNIQUES as ENGINE
from core.errors import BadInput
from core.ffn.table import TECHNIQUES as FFN
from core.heads.table import TECHNIQUES as HEADS
from core.technique import Technique
from core.weights.table import TECHNIQUES as WEIGHTS

# The first technique of a family is not always its default; DEFAULTS says which is.
CATALOGUE: dict[str, dict[str, Technique]] = {
    rows[0].family: {row.name: row for row in rows} for rows in (ATTENTION, HEADS, CACHE, WEIGHTS, FFN, DECODING, ENGINE)
}
DEFAULTS = {
    "attention": "full", "heads": "as_trained", "cache": "dynamic", "weights": "native",
    "ffn": "dense", "decoding": "autoregressive", "engine": "local",
}  # fmt: skip


def find(family: str, name: str) -> Technique:
    """The technique called `name`; BadInput names the nearest ones when there is none."""
    if name not in CATALOGUE[family]:
        raise BadInput(f"{family}.name: no technique is called {name!r}; {neighbours(name, CATALOGUE[family])}")
    return CATALOGUE[family][name]


def neighbours(word: str, known: Iterable[str]) -> str:
    """`did you mean …?` or the whole list when nothing is near."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names) or 'none'}"
