"""A decoder as the records of addresses and sizes that the compiled step walks through."""

from __future__ import annotations

import numpy as np
import torch

from core.attention import few_tiled
from core.attention.coded_kernel import coded_mix_kernel, coded_scores_kernel
from core.attention.highest import highest_kernel
from core.attention.kernel import gather_kernel, join_kernel, mix_kernel, scores_kernel
from core.attention.latent_kernel import padded
from core.attention.softmax_kernel import softmax_kernel
from core.cache.coded import CodedForm
from core.compiled.emitter import LANES
from core.decoder.feed_forward import Mixture, Split
from core.decoder.fused.form import attends_plainly, experts_of, feeds_plainly, linears_of, members_of
from core.decoder.fused.gate import gate_kernel
from core.decoder.fused.latents import Latents
from core.decoder.fused.records import LAYER, MODEL, PART
from core.decoder.linear import Part
from core.decoder.model import Block, Decoder, RmsNorm
from core.weights.activations import quantizer

Stack = list[Part]  # side by side in what a product fills
_PLACES = ("before_attention", "after_attention", "before_ffn", "after_ffn")


class Table:
    """What does not change from pass to pass: `model` is the record, and the arrays that it points into are kept here.

    products: the stacks of qkv, out, gate and up, and down of every layer, and of the head: one each, one for each expert of a
    trained mixture, and none of a feed-forward block that Python computes. layers [L]: addresses of keys, values, cosines and
    sines, sinks, windows, and which layers attend outside are for the run to fill in.
    """

    def __init__(self, decoder: Decoder, products: list[list[Stack]]) -> None:
        self._attentions = [block.attention for block in decoder.blocks]
        self._latents: dict[torch.dtype, Latents] = {}
        self.first = np.cumsum([0, *(sum(map(len, stacks)) for stacks in products)])
        self.parts = _parts([stack for stacks in products for stack in stacks])
        self.norms = _norms(decoder)
        self.vectors: list[np.ndarray] = []
        self.neurons: list[np.ndarray] = []
        self.layers = np.array([self._layer(decoder, index) for index in range(decoder.traits.layers)])
        self.model = np.zeros(1, MODEL)
        self._point()
        self._size(decoder, products)
        self._shape(decoder)

    def for_cache(self, dtype: torch.dtype, coded: CodedForm | None = None) -> np.ndarray:
        """The record for a cache of this number format, and of coded blocks."""
        size = int(self.model["head_size"][0])
        model = self.model.copy()
        model["gather"] = gather_kernel(size * dtype.itemsize)
        vectors = {"scores_kernel": scores_kernel(size, dtype), "mix_kernel": mix_kernel(size, dtype)}
        for name, kernel in (few_tiled.kernels(size) if few_tiled.fits(size, dtype) else vectors).items():
            model[name] = kernel
        if coded is not None:
            model["coded_scores"], model["coded_mix"] = coded_scores_kernel(coded), coded_mix_kernel(coded)
            model["group"], model["record_size"] = coded.group, coded.nbytes
        return model

    def latents(self, dtype: torch.dtype) -> Latents:
        """Of the layers that cache them as numbers of `dtype`."""
        if dtype not in self._latents:
            self._latents[dtype] = Latents(self._attentions, dtype)
        return self._latents[dtype]

    def _point(self) -> None:
        for name in ("parts", "layers", "norms"):
            self.model[name] = getattr(self, name).ctypes.data
        self.model["quantizer"] = quantizer()

    def _size(self, decoder: Decoder, products: list[list[Stack]]) -> None:
        L, traits = decoder.traits.layers, decoder.traits
        widths = [max((_width(stack) for stack in stacks), default=0) for stacks in products]
        qkv, out, wide, down = (max(widths[role : 4 * L : 4]) for role in range(4))
        sizes = {
            "part_count": len(self.parts), "layer_count": L, "width": traits.width, "query_heads": traits.query_heads,
            "head_size": traits.head_size, "ffn_width": traits.ffn_width, "qkv_width": qkv, "wide_width": wide,
            "output_width": max(out, down), "logits_width": widths[-1], "head_part": self.first[4 * L],
            "most_groups": self.parts["groups"].max(initial=1),
            "latent_width": max(padded(attention.rank) for attention in self._attentions),
            "most_experts": self.layers["experts"].max(), "most_used": self.layers["used"].max(),
            "widest": max(
                traits.width, traits.ffn_width, traits.query_heads * traits.head_size, *self.layers["per_expert"],
                *self.layers["per_shared"],
            ),
            **self._sizes_of_mixtures(traits.width),
        }  # fmt: skip
        for name, value in sizes.items():
            self.model[name] = value

    def _sizes_of_mixtures(self, width: int) -> dict[str, int]:
        mixtures = self.layers[self.layers["mixes"] == 1]
        inner = mixtures["used"] * mixtures["per_expert"] + mixtures["per_shared"]
        lines = mixtures["used"] + (mixtures["per_shared"] > 0)
        taken = width if len(mixtures) else 0
        return {"most_lines": lines.max(initial=0), "inner_room": inner.max(initial=0), "taken_width": taken}

    def _shape(self, decoder: Decoder) -> None:
        """The traits of the family."""
        traits, block = decoder.traits, decoder.blocks[0]
        for place in _PLACES:
            self.model[f"norm_{place}"] = getattr(block, place) is not None
        self.model["gate"] = gate_kernel(traits.activation == "gelu_tanh", torch.float32)
        self.model["eps"], self.model["scale"] = traits.eps, traits.attention_scale
        self.model["join"], self.model["choose"] = join_kernel(traits.head_size), highest_kernel()
        self.model["softmax"] = softmax_kernel(bool(traits.attention_cap))
        self.model["cap"], self.model["residual"] = traits.attention_cap, traits.residual_scale

    def _layer(self, decoder: Decoder, index: int) -> np.ndarray:
        attention, layer = decoder.blocks[index].attention, np.zeros((), LAYER)
        for name, first in zip(("qkv", "out", "gate_up", "down", "end"), self.first[4 * index :], strict=False):
            layer[name] = first
        layer["kv_heads"] = attention.kv_heads
        layer["feeds_outside"] = layer["gate_up"] == layer["down"]
        self._divide(layer, decoder.blocks[index])
        layer["half"] = 0 if attention.rope is None else attention.rope.rope.size // 2
        layer["biases"] = self._address(attention.qkv.bias)
        for name, norm in (("q_norm", attention.q_norm), ("k_norm", attention.k_norm)):
            layer[name] = self._address(None if norm is None else norm.weight)
        return layer

    def _divide(self, layer: np.ndarray, block: Block) -> None:
        """Tell a layer that feeds forward inside of its experts, if it has any."""
        experts, members = experts_of(block), members_of(block)
        if experts is not None and not layer["feeds_outside"]:
            self._split(layer, experts[0])
        if members is not None:
            self._mix(layer, members[0], [part.rows // 2 for part in members[1]])

    def _mix(self, layer: np.ndarray, mixture: Mixture, widths: list[int]) -> None:
        """widths: neurons of each expert. The gate of the shared one is the router's last row."""
        layer["mixes"], layer["experts"], layer["used"] = 1, len(mixture.experts), mixture.used
        layer["per_expert"], layer["normalises"] = widths[0], mixture.normalise
        scores = [mixture.router.dense()]
        if mixture.shared_gate is not None:
            layer["per_shared"] = widths[-1]
            scores.append(mixture.shared_gate.dense())
        layer["router"], layer["router_bias"] = self._address(torch.cat(scores)), self._address(torch.zeros(len(widths)))

    def _split(self, layer: np.ndarray, split: Split) -> None:
        layer["experts"], layer["per_expert"], layer["used"] = *split.groups.shape, split.used
        layer["router"], layer["router_bias"] = self._address(split.router.dense()), self._address(split.router.bias)
        self.neurons.append(split.groups.contiguous().numpy())
        layer["neurons"] = self.neurons[-1].ctypes.data

    def _address(self, vector: torch.Tensor | None) -> int:
        """Of the vector in float32; 0 where there is none."""
        if vector is None:
            return 0
        self.vectors.append(np.ascontiguousarray(vector.float().numpy()))
        return int(self.vectors[-1].ctypes.data)


def table_of(decoder: Decoder) -> Table | None:
    """The tables of `decoder`, or None where attention or the head has no compiled form."""
    if not attends_plainly(decoder):
        return None
    head, products = decoder.head.parts(), [_products(block) for block in decoder.blocks]
    if head is None or any(stacks is None for stacks in products):
        return None
    return Table(decoder, [*(stacks for block in products for stacks in block or ()), [head]])


def _products(block: Block) -> list[list[Stack]] | None:
    """The stacks of the four products of a block."""
    qkv, out = block.attention.qkv.parts(), block.attention.out.parts()
    if qkv is None or out is None:
        return None
    return [[qkv], [out], *_feeding(block)]


def _feeding(block: Block) -> list[list[Stack]]:
    """Those of gate and up, and of down; none where Python computes them. Experts of a split block are side by side."""
    members, experts = members_of(block), experts_of(block)
    if members is not None:
        return [[[part] for part in parts] for parts in members[1:]]
    gated = [linear.parts() for linear in linears_of(block)[2:]] if feeds_plainly(block) else []
    if experts is not None:
        gated = [experts[1], experts[0].down.parts()]
    return [[parts] for parts in gated if parts] if gated and all(gated) else [[], []]


def _width(stack: Stack) -> int:
    """Numbers that it fills, in whole blocks."""
    return sum(part.blocks for part in stack) * LANES


def _parts(stacks: list[Stack]) -> np.ndarray:
    rows = []
    for parts in stacks:
        ends = np.cumsum([part.rows for part in parts])
        for part, end in zip(parts, ends, strict=True):
            sizes = part.groups, part.units, part.blocks, int(end) - part.rows
            rows.append((part.function, part.codes, part.scales, part.offsets, *sizes))
    return np.array(rows, PART)


def _norms(decoder: Decoder) -> np.ndarray:
    """[L + 1, 4, C] float32; the last row begins with the final norm."""
    norms = np.zeros((decoder.traits.layers + 1, 4, decoder.traits.width), np.float32)
    for index, block in enumerate(decoder.blocks):
        for place, name in enumerate(_PLACES):
            norm: RmsNorm | None = getattr(block, name)
            if norm is not None:
                norms[index, place] = norm.weight.numpy()
    norms[-1, 0] = decoder.norm.weight.numpy()
    return norms
