"""Past blocks projected along the sequence to a few rows of keys and values each."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from core.attention.compressed import Digest, block_attention
from core.attention.mechanism import Mechanism, Site
from core.attention.table import LinformerOptions
from core.errors import BadInput


class MeanPool:
    """Rows are means of equally many neighbours, and weigh as many keys as they are means of."""

    queried = False

    def __init__(self, block: int, rank: int) -> None:
        self.rows, self.each = rank, block // rank
        self.spread = torch.eye(rank).repeat_interleave(self.each, dim=1) / self.each  # [R, n]

    def digest(self, parts: list[Tensor], site: Site) -> tuple[Digest, Tensor]:
        k, v = parts
        logs = torch.full((site.kv_heads, 1, self.rows), log(self.each))
        return Digest(self.spread @ k, logs, (self.spread @ v)[:, None]), self.spread[None, None]


def linformer(options: LinformerOptions, site: Site) -> Mechanism:
    """Attention to pooled blocks in a layer. Raises BadInput where rows cannot be means of equally many tokens."""
    if options.block % options.rank:
        raise BadInput(f"attention.rank={options.rank} does not divide attention.block={options.block}")
    return block_attention(site, MeanPool(options.block, options.rank), options.block, options.local, options.sinks)
