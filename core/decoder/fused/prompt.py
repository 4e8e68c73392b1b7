"""Passes of many rows: bfloat16 products and attention of torch, with everything between them compiled."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from core.attention.context import Context
from core.attention.mask import FULL
from core.attention.mechanism import Rows
from core.attention.prompt import attend_after
from core.attention.showing import show_reach
from core.attention.softmax import attend
from core.cache.base import KeyValues, Slots
from core.compiled.crew import crew
from core.compiled.jit import callable_at
from core.decoder.feed_forward import Gated, gelu_tanh
from core.decoder.fused.form import is_plain, linears_of
from core.decoder.fused.gate import GATE_ARGUMENTS, gate_kernel
from core.decoder.fused.rows import kernels
from core.decoder.model import Attention, Block, Decoder, RmsNorm
from core.decoder.probe import Probe
from core.decoder.rope import RopeTable

_NONE = np.empty(0, np.float32)


class Prompt:
    """Prompts through one decoder. `of` gives None where it has parts without a bfloat16 form."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder, self.crew, self._kernels = decoder, crew(torch.get_num_threads()), kernels()

    @classmethod
    def of(cls, decoder: Decoder) -> Prompt | None:
        has_form = is_plain(decoder) and all(linear.has_many for block in decoder.blocks for linear in linears_of(block))
        return cls(decoder) if has_form else None

    def takes(self, context: Context, rows: int) -> bool:
        """Whether a pass of `rows` tokens can go this way."""
        cache, reaches = context.cache, context.reaches
        return cache.layout.dtype == torch.bfloat16 and reaches is not None and cache.slots(rows, reaches) is not None

    def forward(self, tokens: Tensor, context: Context, probe: Probe) -> Tensor:
        """As Decoder.forward; products and attention are of bfloat16, the residual stream is float32."""
        probe.start()
        x = self.decoder.embedded(tokens, context, probe)
        rows, reaches = context.rows(len(tokens), probe), context.reaches
        assert reaches is not None
        slots = context.cache.slots(len(tokens), reaches)
        assert slots is not None
        for layer, block in enumerate(self.decoder.blocks):
            h = self._normed(block.before_attention, x)
            probe.lap("norm")
            y = self._attention(layer, block.attention, h, context, slots, rows)
            probe.lap("attention")
            self._add(x, y, block.after_attention)
            h = self._normed(block.before_ffn, x)
            probe.lap("norm")
            y = self._feed_forward(block, h)
            probe.lap("ffn")
            self._add(x, y, block.after_ffn)
            probe.lap("norm")
        context.advance(len(tokens))
        return self.decoder.norm(x)

    def _normed(self, norm: RmsNorm | None, x: Tensor) -> Tensor:
        out = torch.empty(x.shape, dtype=torch.bfloat16)
        self._kernels.norm_rows(x.numpy(), _weight(norm), self._eps, _bits(out))
        return out

    def _add(self, x: Tensor, y: Tensor, norm: RmsNorm | None) -> None:
        self._kernels.add_rows(x.numpy(), _bits(y), _weight(norm), self._eps, np.float32(self.decoder.traits.residual_scale))

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

    def _attention(self, layer: int, attention: Attention, h: Tensor, context: Context, slots: Slots, rows: Rows) -> Tensor:
        queries = self._placed(attention, attention.qkv.many(h), slots, layer, context.length)
        end = slots.end + len(h)
        held = KeyValues(slots.buffers.keys[layer][:, :end], slots.buffers.values[layer][:, :end], slots.positions)
        site, reach = context.mechanisms[layer].site, context.mechanisms[layer].reach
        assert reach is not None
        seen = reach & context.cache.reach
        if seen == FULL and not site.cap:
            y = attend_after(queries, held.keys, held.values, site.scale)
        else:
            y = attend(queries.transpose(0, 1), held, rows, seen, site).bfloat16()
        show_reach(queries.transpose(0, 1), held, rows, site, reach, context.cache.reach)
        return attention.out.many(y.flatten(1))

    def _placed(self, attention: Attention, qkv: Tensor, slots: Slots, layer: int, position: int) -> Tensor:
        """Queries [H, T, D]; keys and values go into the cache."""
        T, size = len(qkv), self.decoder.traits.head_size
        queries = torch.empty(attention.query_heads, T, size, dtype=torch.bfloat16)
        norms = _weight(attention.q_norm), _weight(attention.k_norm)
        bias = _NONE if attention.qkv.bias is None else attention.qkv.bias.float().numpy()
        cos, sin = _rotations(attention.rope, position, T)
        held = _bits(slots.buffers.keys[layer]), _bits(slots.buffers.values[layer])
        arrays = (_bits(qkv), bias, *norms, self._eps, cos, sin, _bits(queries), *held, slots.first)
        self.crew.share(T, lambda first, last: self._kernels.place_rows(*arrays, first, last))
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
