"""A decoder as the tables of addresses and numbers that the compiled step walks through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.decoder.feed_forward import Gated, gelu_tanh
from core.decoder.fused import step as s
from core.decoder.linear import Linear, Part
from core.decoder.model import Attention, Decoder, RmsNorm

_PLACES = ("before_attention", "after_attention", "before_ffn", "after_ffn")


@dataclass(frozen=True)
class Table:
    """What does not change from pass to pass. parts [P, 8] are the products, layer by layer and then the head."""

    layers: np.ndarray
    parts: np.ndarray
    head_part: int
    norms: np.ndarray
    places: np.ndarray
    head_norms: np.ndarray
    biases: np.ndarray
    numbers: np.ndarray
    rope_of: np.ndarray
    gelu: bool
    most_groups: int
    padded: tuple[int, int, int, int]  # widths of qkv, gate_up, y and logits with rows padded to whole blocks


def table_of(decoder: Decoder) -> Table | None:
    """The tables of `decoder`, or None where one of its parts has no fused form."""
    if not all(_unbiased(block.ffn) and _simple(block.attention) for block in decoder.blocks) or decoder.traits.clip_qkv:
        return None
    linears = [list(_linears(block.attention, block.ffn)) for block in decoder.blocks]
    products = [linear.parts() for layer in linears for linear in layer] + [decoder.head.parts()]
    if any(parts is None for parts in products):
        return None
    return _Builder(decoder, [list(parts or ()) for parts in products]).table()


def _simple(attention: Attention) -> bool:
    return not attention.norm_rows and attention.out.bias is None


def _unbiased(ffn: object) -> bool:
    return isinstance(ffn, Gated) and ffn.gate_up.bias is None and ffn.down.bias is None


def _linears(attention: Attention, ffn: object) -> Sequence[Linear]:
    assert isinstance(ffn, Gated)
    return attention.qkv, attention.out, ffn.gate_up, ffn.down


class _Builder:
    def __init__(self, decoder: Decoder, products: list[list[Part]]) -> None:
        self.decoder, self.products, self.traits = decoder, products, decoder.traits
        self.first = np.cumsum([0, *(len(parts) for parts in products)])

    def table(self) -> Table:
        L = self.traits.layers
        widths = [sum(part.blocks for part in parts) * 16 for parts in self.products]
        qkv, out, wide, down = (max(widths[role : 4 * L : 4]) for role in range(4))
        return Table(
            self._layers(), self._parts(), int(self.first[4 * L]), self._norms(), self._places(),
            self._head_norms(), self._biases(), self._numbers(), self._rope_of(), self._gelu(),
            max(part.groups for parts in self.products for part in parts), (qkv, wide, max(out, down), widths[-1]),
        )  # fmt: skip

    def _parts(self) -> np.ndarray:
        rows = [
            (part.function, part.codes, part.scales, part.offsets, part.groups, part.octets, part.blocks, start)
            for parts in self.products
            for part, start in zip(parts, _starts(parts), strict=True)
        ]
        return np.array(rows, np.int64)

    def _layers(self) -> np.ndarray:
        layers = np.zeros((self.traits.layers, s.LAYER_COLUMNS), np.int64)
        for index, block in enumerate(self.decoder.blocks):
            layers[index, s.QKV : s.DOWN + 1] = self.first[4 * index : 4 * index + 4]
            rope = block.attention.rope
            layers[index, s.KV_HEADS] = block.attention.kv_heads
            layers[index, s.ROPE] = 0 if rope is None else rope.rope.size // 2
        return layers

    def _norms(self) -> np.ndarray:
        norms = np.zeros((self.traits.layers + 1, 4, self.traits.width), np.float32)
        for index, block in enumerate(self.decoder.blocks):
            for place, name in enumerate(_PLACES):
                norm: RmsNorm | None = getattr(block, name)
                if norm is not None:
                    norms[index, place] = norm.weight.numpy()
        norms[-1, 0] = self.decoder.norm.weight.numpy()
        return norms

    def _places(self) -> np.ndarray:
        return np.array([getattr(self.decoder.blocks[0], name) is not None for name in _PLACES])

    def _head_norms(self) -> np.ndarray:
        """[L, 2, D] for q and k, or [L, 2, 0] where heads are not normed."""
        pairs = [(block.attention.q_norm, block.attention.k_norm) for block in self.decoder.blocks]
        rows = [[norm.weight.numpy() for norm in pair if norm is not None] for pair in pairs]
        return np.array(rows, np.float32) if all(rows) else np.zeros((len(rows), 2, 0), np.float32)

    def _biases(self) -> np.ndarray:
        """[L, width of qkv], or [L, 0]."""
        biases = [block.attention.qkv.bias for block in self.decoder.blocks]
        rows = [bias.float().numpy() for bias in biases if bias is not None]
        return np.array(rows, np.float32) if rows else np.zeros((len(biases), 0), np.float32)

    def _numbers(self) -> np.ndarray:
        t = self.traits
        return np.array([t.eps, t.attention_scale, t.attention_cap, t.residual_scale], np.float32)

    def _rope_of(self) -> np.ndarray:
        known = list(self.decoder.ropes)
        ropes = [block.attention.rope for block in self.decoder.blocks]
        return np.array([0 if rope is None else next(i for i, one in enumerate(known) if one is rope) for rope in ropes])

    def _gelu(self) -> bool:
        ffn = self.decoder.blocks[0].ffn
        assert isinstance(ffn, Gated)
        return ffn.activation is gelu_tanh


def _starts(parts: list[Part]) -> list[int]:
    ends = np.cumsum([part.rows for part in parts])
    return [int(end) - part.rows for end, part in zip(ends, parts, strict=True)]
