"""The decoder: embedding, blocks of attention and feed-forward, final norm and head. Plain torch, readable end to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from core.decoder.linear import Linear
from core.decoder.rope import RopeTable
from core.decoder.traits import Traits

if TYPE_CHECKING:
    from core.attention.context import Context
    from core.attention.mechanism import Rows
    from core.cache.base import KeyValues
    from core.decoder.probe import Probe


@dataclass
class RmsNorm:
    """x / rms(x) · weight over the last axis."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return torch.nn.functional.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


class FeedForward(Protocol):
    """Maps normed x [T, C] to [T, C]; may report routing to the probe."""

    def __call__(self, x: Tensor, layer: int, probe: Probe) -> Tensor: ...

    @property
    def nbytes(self) -> int: ...

    @property
    def active_nbytes(self) -> int:
        """Bytes one token reads."""


@dataclass
class Latent:
    """Keys and values of a token from r numbers, which a cache keeps in two parts, as if they were a key and a value.

    expand: c [S, r] to k and v [S, 2·G·D], before norms and rotation. sizes: numbers of each part, r together.
    """

    expand: Linear
    sizes: tuple[int, int]


@dataclass
class Attention:
    """Projections of one layer; qkv yields H + 2G heads of D, or H heads and a latent."""

    qkv: Linear
    out: Linear
    query_heads: int
    kv_heads: int
    q_norm: RmsNorm | None = None
    k_norm: RmsNorm | None = None
    norm_rows: bool = False  # q and k are normed over all heads at once
    rope: RopeTable | None = None
    window: int | None = None
    clip: float = 0.0  # the most that q, k and v may be; 0 is no limit
    latent: Latent | None = None

    def projected(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q [T, H, D], k and v [T, G, D] of x [T, C], normed and rotated; the two parts of a latent [T, 1, r] as they are."""
        q, kv = torch.tensor_split(self.qkv(x), [self.out.in_features], dim=-1)
        q = self._rotated(self.headed(q, self.q_norm), positions)
        return (q, *self._keys_values(kv, positions)) if self.latent is None else (q, *self.parted(kv))

    def parted(self, kv: Tensor) -> tuple[Tensor, Tensor]:
        """k and v [T, G, D] of what follows the queries of each row, as it is; of a latent its parts [T, 1, r]."""
        if self.latent is None:
            k, v = kv.view(len(kv), 2, self.kv_heads, -1).unbind(dim=1)
        else:
            k, v = torch.split(kv[:, None], list(self.latent.sizes), dim=-1)
        return k, v

    def expanded(self, held: KeyValues) -> KeyValues:
        """Keys and values [G, S, D] of latents in two parts [1, S, r], normed and rotated to where they stand."""
        assert self.latent is not None
        c = torch.cat((held.keys[0], held.values[0]), dim=-1)  # [S, r]
        parts = self._keys_values(self.latent.expand(c), held.positions.flatten())
        keys, values = (part.transpose(0, 1).to(held.keys.dtype) for part in parts)
        return replace(held, keys=keys, values=values)

    def headed(self, x: Tensor, norm: RmsNorm | None = None) -> Tensor:
        """What a projection gave, [T, heads · D], to [T, heads, D], normed and clipped."""
        if self.norm_rows:
            x = _normed(norm, x)
        if self.clip:
            x = x.clamp(-self.clip, self.clip)
        x = x.reshape(len(x), -1, self.out.in_features // self.query_heads)
        return x if self.norm_rows else _normed(norm, x)

    def _keys_values(self, kv: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """k and v [T, G, D] of what the projections gave, [T, 2·G·D]."""
        k, v = kv.chunk(2, dim=-1)
        return self._rotated(self.headed(k, self.k_norm), positions), self.headed(v)

    def _rotated(self, x: Tensor, positions: Tensor) -> Tensor:
        return x if self.rope is None else self.rope.rotate(x, positions)

    @property
    def rank(self) -> int:
        """Numbers of a latent; 0 where keys and values are cached."""
        return 0 if self.latent is None else sum(self.latent.sizes)

    @property
    def nbytes(self) -> int:
        return self.qkv.nbytes + self.out.nbytes + (0 if self.latent is None else self.latent.expand.nbytes)


@dataclass
class Block:
    """One layer. Norms that the family does not have are None."""

    attention: Attention
    ffn: FeedForward
    before_attention: RmsNorm | None
    after_attention: RmsNorm | None
    before_ffn: RmsNorm | None
    after_ffn: RmsNorm | None


@dataclass
class Decoder:
    """A whole model. embed: token ids [T] to [T, C] float32."""

    traits: Traits
    embed: Callable[[Tensor], Tensor]
    blocks: Sequence[Block]
    norm: RmsNorm
    head: Linear
    embed_nbytes: int = 0
    ropes: Sequence[RopeTable] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes of every resident matrix, the embedding once."""
        return self._attention_and_head_nbytes + sum(block.ffn.nbytes for block in self.blocks) + self.embed_nbytes

    @property
    def active_nbytes(self) -> int:
        """Bytes of the matrices that one token's pass reads."""
        return self._attention_and_head_nbytes + sum(block.ffn.active_nbytes for block in self.blocks)

    @property
    def _attention_and_head_nbytes(self) -> int:
        return sum(block.attention.nbytes for block in self.blocks) + self.head.nbytes

    def forward(self, tokens: Tensor, context: Context, probe: Probe) -> Tensor:
        """Hidden states [T, C] float32 of `tokens` [T], which follow those of `context`."""
        probe.start()
        rows = context.rows(len(tokens), probe)
        x = self.embedded(tokens, context, probe)
        for layer, block in enumerate(self.blocks):
            x = self.attended(layer, block, x, context, rows)
            x = self.fed(layer, block, x, probe)
        context.advance(len(tokens))
        x = self.norm(x)
        probe.lap("norm")
        return x

    def embedded(self, tokens: Tensor, context: Context, probe: Probe) -> Tensor:
        """Where a pass begins: x [T, C] float32, with rotations for the positions after those of `context`."""
        for rope in self.ropes:
            rope.reserve(context.length + len(tokens), context.cache.span)
        x = self.embed(tokens) * self.traits.embed_scale
        probe.lap("embed")
        return x

    def logits(self, hidden: Tensor, probe: Probe) -> Tensor:
        """[T, C] to [T, V] float32."""
        logits = self.finished(self.head(hidden))
        probe.lap("head")
        return logits

    def finished(self, logits: Tensor) -> Tensor:
        """What the head gives, scaled and capped."""
        scale, cap = self.traits.logit_scale, self.traits.logit_cap
        logits = logits if scale == 1 else logits * scale
        return cap * torch.tanh(logits / cap) if cap else logits

    def attended(self, layer: int, block: Block, x: Tensor, context: Context, rows: Rows) -> Tensor:
        """x [T, C] after the attention of a layer."""
        h = _normed(block.before_attention, x)
        rows.probe.lap("norm")
        h = self._attention(layer, block.attention, h, context, rows)
        rows.probe.lap("attention")
        return x + _normed(block.after_attention, h) * self.traits.residual_scale

    def fed(self, layer: int, block: Block, x: Tensor, probe: Probe) -> Tensor:
        """x [T, C] after the feed-forward block of a layer."""
        h = _normed(block.before_ffn, x)
        probe.lap("norm")
        h = block.ffn(h, layer, probe)
        probe.lap("ffn")
        x = x + _normed(block.after_ffn, h) * self.traits.residual_scale
        probe.lap("norm")
        return x

    def _attention(self, layer: int, attention: Attention, x: Tensor, context: Context, rows: Rows) -> Tensor:
        q, k, v = attention.projected(x, rows.positions)
        return attention.out(context.attend(layer, q, k, v, rows).flatten(1))


def _normed(norm: RmsNorm | None, x: Tensor) -> Tensor:
    return x if norm is None else norm(x)
