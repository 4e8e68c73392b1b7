"""What a model's own attention computes from, layer by layer, while it reads a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.attention.context import Context
from core.attention.mechanism import Rows, Site, Store
from core.attention.softmax import Softmax
from core.cache.base import Layout
from core.cache.off import Off
from core.decoder.model import Decoder
from core.decoder.probe import Probe
from core.decoder.sites import sites_of
from core.technique import NoOptions


@dataclass(frozen=True)
class Lesson:
    """One sequence in one layer: q [T, H, D], k and v [T, G, D], rotated, bfloat16."""

    q: Tensor
    k: Tensor
    v: Tensor


class _Heard(Softmax):
    """The trained attention, which notes what it is fed."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.lessons: list[Lesson] = []

    def attend(self, q: Tensor, k: Tensor, v: Tensor, store: Store, rows: Rows) -> Tensor:
        self.lessons.append(Lesson(q.bfloat16(), k.bfloat16(), v.bfloat16()))
        return super().attend(q, k, v, store, rows)


def lessons_of(
    decoder: Decoder, sequences: Sequence[Tensor], progress: Callable[[int, int], None] = lambda *_: None
) -> list[list[Lesson]]:
    """For each layer of `decoder`, its queries, keys and values over `sequences` of token ids [T].

    progress(done, total) is told of sequences, and may raise to end the work.
    """
    tokens, dtype = max(map(len, sequences)), torch.bfloat16
    heard = [_Heard(site) for site in sites_of(decoder, tokens, dtype)]
    layout = Layout(tuple(layer.site.kv_heads for layer in heard), decoder.traits.head_size, tokens, dtype)
    with torch.inference_mode():
        for done, sequence in enumerate(sequences):
            progress(done, len(sequences))
            decoder.forward(sequence, Context(Off(NoOptions(), layout), heard), Probe())
    progress(len(sequences), len(sequences))
    return [layer.lessons for layer in heard]
