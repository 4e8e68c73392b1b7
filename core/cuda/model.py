"""Passes of the decoder on a device: the blocks of core/decoder, computed by the device's kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.attention.mask import FULL, Pattern
from core.attention.mechanism import Rows
from core.attention.showing import show_reach
from core.cache.base import KeyValues
from core.cuda.kernels import Kernels
from core.cuda.span import Span
from core.cuda.store import Store
from core.decoder.feed_forward import Gated
from core.decoder.model import Attention, Decoder, RmsNorm
from core.decoder.probe import Probe
from core.decoder.sites import sites_of


class DeviceDecoder:
    """A decoder whose matrices, norms and embedding lie on the device.

    dtype: of activations between products. kv_dtype: of keys and values.
    """

    def __init__(self, decoder: Decoder, kernels: Kernels, dtype: torch.dtype, kv_dtype: torch.dtype) -> None:
        self.decoder, self.kernels, self.traits = decoder, kernels, decoder.traits
        self.dtype, self.kv_dtype = dtype, kv_dtype
        self.sites = sites_of(decoder, decoder.traits.context, kv_dtype)

    def hidden(self, tokens: Tensor, store: Store, span: Span, patterns: Sequence[Pattern], probe: Probe) -> Tensor:
        """Tokens [B, T] at the span's positions, after what `store` holds, to the head's input [B · T, C].

        patterns: what a query sees in each layer.
        """
        probe.start()
        blocks = self.decoder.blocks
        x = self.decoder.embed(tokens.flatten()) * self.traits.embed_scale  # [R, C] float32
        probe.lap("embed")
        h = self._join(x, None, None, blocks[0].before_attention)
        for layer, block in enumerate(blocks):
            following = blocks[layer + 1].before_attention if layer + 1 < len(blocks) else self.decoder.norm
            probe.lap("norm")
            y = self._attention(layer, h.view(*tokens.shape, -1), store, span, patterns[layer], probe)
            probe.lap("attention")
            h = self._join(x, y, block.after_attention, block.before_ffn)
            probe.lap("norm")
            assert isinstance(block.ffn, Gated)
            y = block.ffn.down(self.kernels.gate(block.ffn.gate_up(h), block.ffn.activation))
            probe.lap("ffn")
            h = self._join(x, y, block.after_ffn, following)
        probe.lap("norm")
        return h

    def logits(self, hidden: Tensor, probe: Probe) -> Tensor:
        """[R, C] to [R, V] float32."""
        logits = self.decoder.finished(self.decoder.head(hidden).float())
        probe.lap("head")
        return logits

    def _join(self, x: Tensor, y: Tensor | None, after: RmsNorm | None, before: RmsNorm | None) -> Tensor:
        return self.kernels.join(x, y, after, self.traits.residual_scale, before, self.dtype)

    def _attention(self, layer: int, x: Tensor, store: Store, span: Span, pattern: Pattern, probe: Probe) -> Tensor:
        """x [B, T, C] to [B · T, C]."""
        attention = self.decoder.blocks[layer].attention
        q, k, v = self._projected(attention, x)
        keys, values = store.enter(layer)
        rope = None if attention.rope is None else store.ropes[attention.rope.rope]
        q = self.kernels.keep(q, k, v, rope, span.positions, keys, values)
        scale, cap = self.traits.attention_scale, self.traits.attention_cap
        y = self.kernels.attend(q, keys, values, span, pattern, scale, cap)
        if layer in probe.attention_layers:
            self._show(layer, q, keys, values, span, pattern, probe)
        store.leave(layer)
        return attention.out(y.reshape(-1, y.shape[2] * y.shape[3]).to(self.dtype))

    def _show(self, layer: int, q: Tensor, keys: Tensor, values: Tensor, span: Span, pattern: Pattern, probe: Probe) -> None:
        """Hand the weights of the first sequence to the probe; they are computed on the processor, as any capture is."""
        k, v = (part[0, :, : span.slots].cpu() for part in (keys, values))
        kv, rows = KeyValues(k, v, torch.arange(span.slots)), Rows(span.positions.cpu(), probe)
        show_reach(q[0].cpu(), kv, rows, self.sites[layer], pattern, FULL)

    def _projected(self, attention: Attention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q [B, T, H, D], k and v [B, T, G, D], normed; views of one product where nothing norms them."""
        H, G, D = attention.query_heads, attention.kv_heads, self.traits.head_size
        joint = attention.qkv(x.flatten(0, 1)).view(*x.shape[:2], -1)
        q, k, v = torch.split(joint, [H * D, G * D, G * D], dim=-1)
        if attention.norm_rows:
            q, k = _normed(attention.q_norm, q), _normed(attention.k_norm, k)
        if clip := self.traits.clip_qkv:
            q, k, v = (part.clamp(-clip, clip) for part in (q, k, v))
        q, k, v = (part.view(*x.shape[:2], -1, D) for part in (q, k, v))
        if not attention.norm_rows:
            q, k = _normed(attention.q_norm, q), _normed(attention.k_norm, k)
        return q, k, v


def _normed(norm: RmsNorm | None, x: Tensor) -> Tensor:
    return x if norm is None else norm(x.float())
