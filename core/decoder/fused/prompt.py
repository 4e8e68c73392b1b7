"""Passes of many rows: bfloat16 products and attention of torch, with everything between them compiled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from core.attention.mask import FULL, Reach
from core.attention.prompt import attend_after
from core.attention.softmax import KeyValues, Masks, attend
from core.cache.base import Cache, Slots
from core.compiled.crew import crew
from core.compiled.jit import callable_at
from core.decoder.feed_forward import Gated, gelu_tanh
from core.decoder.fused import rows as r
from core.decoder.fused.form import is_plain, linears_of
from core.decoder.fused.gate import GATE_ARGUMENTS, gate_kernel
from core.decoder.model import Attention, Block, Decoder, RmsNorm, show_attention
from core.decoder.probe import Probe
from core.decoder.rope import RopeTable

_NONE = np.empty(0, np.float32)


class Prompt:
    """Prompts through one decoder. `of` gives None where it has parts without a bfloat16 form."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder, self.crew = decoder, crew(torch.get_num_threads())

    @classmethod
    def of(cls, decoder: Decoder) -> Prompt | None:
        has_form = is_plain(decoder) and all(linear.has_many for block in decoder.blocks for linear in linears_of(block))
        return cls(decoder) if has_form else None

    def takes(self, cache: Cache, rows: int, reaches: Sequence[Reach]) -> bool:
        """Whether a pass of `rows` tokens over `cache` can go this way."""
        return cache.layout.dtype == torch.bfloat16 and cache.slots(rows, reaches) is not None

    def forward(self, tokens: Tensor, cache: Cache, reaches: Sequence[Reach], probe: Probe) -> Tensor:
        """As Decoder.forward; products and attention are of bfloat16, the residual stream is float32."""
        probe.start()
        x = self.decoder.embedded(tokens, cache, probe)
        slots = cache.slots(len(tokens), reaches)
        assert slots is not None
        masks = Masks(torch.arange(cache.length, cache.length + len(tokens)))
        for layer, block in enumerate(self.decoder.blocks):
            h = self._normed(block.before_attention, x)
            probe.lap("norm")
            y = self._attention(layer, block.attention, h, masks, slots, reaches[layer] & cache.reach, probe)
            self._add(x, y, block.after_attention)
            h = self._normed(block.before_ffn, x)
            probe.lap("norm")
            y = self._feed_forward(block, h)
            probe.lap("ffn")
            self._add(x, y, block.after_ffn)
            probe.lap("norm")
        cache.advance(len(tokens))
        return self.decoder.norm(x)

    def _normed(self, norm: RmsNorm | None, x: Tensor) -> Tensor:
        out = torch.empty(x.shape, dtype=torch.bfloat16)
        r.norm_rows(x.numpy(), _weight(norm), self._eps, _bits(out))
        return out

    def _add(self, x: Tensor, y: Tensor, norm: RmsNorm | None) -> None:
        r.add_rows(x.numpy(), _bits(y), _weight(norm), self._eps, np.float32(self.decoder.traits.residual_scale))

    def _feed_forward(self, block: Block, h: Tensor) -> Tensor:
        assert isinstance(block.ffn, Gated)
        wide = block.ffn.gate_up.many(h)
        inner = torch.empty(len(h), block.ffn.down.in_features, dtype=torch.bfloat16)
        self._gate(wide, inner, block.ffn.activation is gelu_tanh)
        return block.ffn.down.many(inner)

    def _gate(self, wide: Tensor, inner: Tensor, gelu: bool) -> None:
        kernel = callable_at(gate_kernel(gelu, torch.bfloat16), GATE_ARGUMENTS)
        shape = wide.data_ptr(), inner.data_ptr(), wide.shape[1], inner.shape[1]
        self.crew.share(len(inner), lambda first, last: kernel(*shape, first, last, 0, inner.shape[1]))

    def _attention(
        self, layer: int, attention: Attention, h: Tensor, masks: Masks, slots: Slots, reach: Reach, probe: Probe
    ) -> Tensor:
        queries = self._placed(attention, attention.qkv.many(h), slots, layer, int(masks.queries[0]))
        end = slots.end + len(h)
        held = KeyValues(slots.buffers.keys[layer][:, :end], slots.buffers.values[layer][:, :end], slots.positions)
        reach = reach & Reach(0, attention.window)
        scale, cap = self.decoder.traits.attention_scale, self.decoder.traits.attention_cap
        if reach == FULL and not cap:
            y = attend_after(queries, held.keys, held.values, scale)
        else:
            y = attend(queries.transpose(0, 1), held, masks, reach, scale, cap).bfloat16()
        show_attention(probe, layer, queries.transpose(0, 1), held, masks, reach, scale, cap)
        out = attention.out.many(y.flatten(1))
        probe.lap("attention")
        return out

    def _placed(self, attention: Attention, qkv: Tensor, slots: Slots, layer: int, position: int) -> Tensor:
        """Queries [H, T, D]; keys and values go into the cache."""
        T, size = len(qkv), self.decoder.traits.head_size
        queries = torch.empty(attention.query_heads, T, size, dtype=torch.bfloat16)
        norms = _weight(attention.q_norm), _weight(attention.k_norm)
        bias = _NONE if attention.qkv.bias is None else attention.qkv.bias.float().numpy()
        cos, sin = _rotations(attention.rope, position, T)
        held = _bits(slots.buffers.keys[layer]), _bits(slots.buffers.values[layer])
        arrays = (_bits(qkv), bias, *norms, self._eps, cos, sin, _bits(queries), *held, slots.first)
        self.crew.share(T, lambda first, last: r.place_rows(*arrays, first, last))
        return queries

    @property
    def _eps(self) -> np.float32:
        return np.float32(self.decoder.traits.eps)


def _weight(norm: RmsNorm | None) -> np.ndarray:
    return _NONE if norm is None else norm.weight.numpy()


def _bits(x: Tensor) -> np.ndarray:
    """Bfloat16 as compiled code sees it."""
    return x.view(torch.uint16).numpy()


def _rotations(rope: RopeTable | None, position: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines [T, half] from `position` on."""
    if rope is None:
        return np.empty((rows, 0), np.float32), np.empty((rows, 0), np.float32)
    return rope.cos[position : position + rows].numpy(), rope.sin[position : position + rows].numpy()
