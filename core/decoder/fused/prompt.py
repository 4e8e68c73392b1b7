"""Passes of many rows: products and attention of torch, with everything between them compiled."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from core.attention import tiled
from core.attention.context import Context
from core.attention.mask import FULL, Reach
from core.attention.mechanism import Rows, Site
from core.attention.prompt import attend_after, attend_in_blocks, attend_sides
from core.attention.showing import show_reach
from core.attention.sides import Edges, Sides
from core.cache.base import KeyValues, Slots
from core.compiled import tiles
from core.compiled.crew import crew
from core.compiled.jit import callable_at
from core.compiled.tiles import SIDE
from core.decoder.feed_forward import Gated, Mixture, Split, rows_of
from core.decoder.fused.form import attends_plainly, feeds_plainly, linears_of, mixture_of, prompt_inside_of, split_of
from core.decoder.fused.gate import GATE_ARGUMENTS, gate_kernel
from core.decoder.fused.rows import kernels
from core.decoder.linear import Linear, widest
from core.decoder.model import Attention, Block, Decoder, RmsNorm
from core.decoder.probe import Probe
from core.decoder.rope import RopeTable
from core.decoder.threads import one_thread

_NONE = np.empty(0, np.float32)


class Prompt:
    """Prompts through one decoder. `of` gives None where attention has no such form.

    dtype: of products and attention, bfloat16 or float32; the residual stream is float32.
    """

    def __init__(self, decoder: Decoder, dtype: torch.dtype) -> None:
        self.decoder, self.dtype, self.crew, self._kernels = decoder, dtype, crew(torch.get_num_threads()), kernels()

    @classmethod
    def of(cls, decoder: Decoder) -> Prompt | None:
        dtype = widest([linear.many_dtype for block in decoder.blocks for linear in _linears(block)])
        return cls(decoder, dtype) if dtype is not None and attends_plainly(decoder) else None

    def forward(self, tokens: Tensor, context: Context, probe: Probe) -> Tensor:
        """As Decoder.forward."""
        probe.start()
        x = self.decoder.embedded(tokens, context, probe)
        rows, (inside, slots) = context.rows(len(tokens), probe), prompt_inside_of(context, len(tokens), probe, self.dtype)
        sides = _sides(slots, len(tokens))
        h = self._moved(x, None, None, self.decoder.blocks[0].before_attention)
        probe.lap("norm")
        following = [*(block.before_attention for block in self.decoder.blocks[1:]), None]
        for layer, (block, before_next) in enumerate(zip(self.decoder.blocks, following, strict=True)):
            y = self._attention(layer, h, context, inside[layer], slots, sides, rows)
            probe.lap("attention")
            h = self._moved(x, y, block.after_attention, block.before_ffn)
            probe.lap("norm")
            y = self._feed_forward(layer, block, h, probe, len(tokens))
            probe.lap("ffn")
            h = self._moved(x, y, block.after_ffn, before_next)
            probe.lap("norm")
        context.advance(len(tokens))
        return self.decoder.norm(x)

    def _moved(self, x: Tensor, y: Tensor | None, after: RmsNorm | None, before: RmsNorm | None) -> Tensor:
        """x [T, C] += norm(y), then what the next product takes of it: norm(x) [P, C], rows padded."""
        out = torch.empty(self._padded(len(x)), x.shape[1], dtype=self.dtype)
        added = np.empty((0, 0), _array(out).dtype) if y is None else _array(y)
        scale = np.float32(self.decoder.traits.residual_scale)
        arrays = x.numpy(), added, _weight(after), _weight(before), self._eps, scale, _array(out)
        self.crew.share(len(x), lambda first, last: self._kernels.move_rows(*arrays, first, last))
        return out

    def _padded(self, rows: int) -> int:
        """Whole squares of tiles where products are of tiles, so that they need no copy of what they take."""
        return -(-rows // SIDE) * SIDE if self.dtype == torch.bfloat16 and tiles.available() else rows

    def _feed_forward(self, layer: int, block: Block, h: Tensor, probe: Probe, count: int) -> Tensor:
        if feeds_plainly(block):
            assert isinstance(block.ffn, Gated)
            return block.ffn.down.many(self._inner(block.ffn.gate_up, h))
        mixture, split = mixture_of(block), split_of(block)
        if mixture is not None:
            return self._mixed(mixture, h, layer, probe, count)
        if split is None:
            return block.ffn(h[:count].float(), layer, probe).to(self.dtype)
        with one_thread():
            chosen = split.choose(h[:count].float(), layer, probe)
        return split.down.many(self._inner_of_experts(split, h, chosen))

    def _mixed(self, mixture: Mixture, h: Tensor, layer: int, probe: Probe, count: int) -> Tensor:
        """What the experts of a trained mixture give [P, C] float32: one product an expert, of the rows that take it."""
        total = np.zeros(h.shape, np.float32)
        with one_thread():
            shares = list(mixture.shares(h[:count].float(), layer, probe))
        for expert, rows, weights in shares:
            given = expert.down.many(self._inner(expert.gate_up, self._taken(h, rows)))
            arrays = _array(given), rows.numpy(), weights.numpy(), total
            self.crew.share(len(rows), partial(self._kernels.weigh_rows, *arrays))
        return torch.from_numpy(total)

    def _taken(self, h: Tensor, rows: Tensor) -> Tensor:
        """These rows of h, padded."""
        taken = torch.empty(self._padded(len(rows)), h.shape[1], dtype=self.dtype)
        self.crew.share(len(rows), partial(self._kernels.take_rows, _array(h), rows.numpy(), _array(taken)))
        return taken

    def _inner_of_experts(self, split: Split, h: Tensor, chosen: Tensor) -> Tensor:
        """Activations [P, F] of the experts [T, K] that each row has chosen; those of others are 0."""
        with one_thread():
            inner = torch.zeros(len(h), split.down.in_features, dtype=self.dtype)
        for expert in torch.unique(chosen).tolist():
            rows = rows_of(expert, chosen)
            computed, neurons = self._inner(split.gate_ups[expert], self._taken(h, rows)), split.groups[expert]
            arrays = _array(computed), rows.numpy(), neurons.numpy(), _array(inner)
            self.crew.share(len(rows), partial(self._kernels.spread_rows, *arrays))
        return inner

    def _inner(self, gate_up: Linear, h: Tensor) -> Tensor:
        """act(gate) · up [P, F] of h [P, C]."""
        gelu = self.decoder.traits.activation == "gelu_tanh"
        inner = gate_up.many_gated(h, gelu)
        return self._gated(gate_up.many(h), gelu) if inner is None else inner

    def _gated(self, wide: Tensor, gelu: bool) -> Tensor:
        """act(gate) · up of wide [P, 2 F], which holds gate and then up."""
        inner = torch.empty(len(wide), wide.shape[1] // 2, dtype=self.dtype)
        kernel = callable_at(gate_kernel(gelu, self.dtype), GATE_ARGUMENTS)
        shape = wide.data_ptr(), inner.data_ptr(), wide.shape[1], inner.shape[1]
        self.crew.share(len(inner), lambda first, last: kernel(*shape, first, last, 0, inner.shape[1]))
        return inner

    def _attention(
        self, layer: int, h: Tensor, context: Context, reach: Reach | None, slots: Slots | None, sides: Sides | None, rows: Rows
    ) -> Tensor:
        attention, count = self.decoder.blocks[layer].attention, len(rows.positions)
        qkv, site = attention.qkv.many(h)[:count], context.mechanisms[layer].site
        if reach is None or slots is None:
            y = self._attended_outside(layer, attention, qkv, context, rows).to(self.dtype)
            return attention.out.many(y.flatten(1))
        keys, values, begin = slots.buffers.keys[layer], slots.buffers.values[layer], slots.begin
        seen = slice(begin, begin + slots.end + count)
        if attention.latent is None:
            q = self._placed(attention, qkv, keys, values, begin + slots.first, context.length)
        else:
            with one_thread():
                q, *latents = self._placed_latents(attention, qkv, context.length)
                slots.buffers.write(layer, begin + slots.first, *latents)
                keys, values = self._expanded(attention, keys[0, seen], values[0, seen])
                seen = slice(0, slots.end + count)
        if sides is None:
            kv = KeyValues(keys[:, seen], values[:, seen], slots.positions)
            y = self._attended(q, count, kv, reach & context.cache.reach, site)
            show_reach(q[:, :count].transpose(0, 1), kv, rows, site, reach, context.cache.reach)
        else:
            y = _attended_sides(q, count, *sides.fill(layer, self.crew.share), sides.edges, site)
        return attention.out.many(y.flatten(1))

    def _attended_outside(self, layer: int, attention: Attention, qkv: Tensor, context: Context, rows: Rows) -> Tensor:
        """Attention [T, H, D] float32 by the layer's mechanism."""
        count, position = len(qkv), context.length
        if attention.latent is None:
            k, v = torch.empty(2, attention.kv_heads, count, self.decoder.traits.head_size, dtype=self.dtype)
            q = self._placed(attention, qkv, k, v, 0, position)
            k, v = k.transpose(0, 1).float(), v.transpose(0, 1).float()
        else:
            q, k, v = self._placed_latents(attention, qkv, position)
        return context.attend(layer, q[:, :count].transpose(0, 1).float(), k, v, rows)

    def _no_heads(self) -> Tensor:
        """Queries, or keys, or values [0, 0, D]."""
        return torch.empty(0, 0, self.decoder.traits.head_size, dtype=self.dtype)

    def _placed_latents(self, attention: Attention, qkv: Tensor, position: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [H, P, D], rows padded, and the parts of latents [T, 1, r] float32, which follow the queries of each row."""
        assert attention.qkv.bias is not None
        queries = self._placed(attention, qkv, self._no_heads(), self._no_heads(), 0, position)
        first = attention.out.in_features
        return queries, *attention.parted(qkv[:, first:].float() + attention.qkv.bias[first:].float())

    def _expanded(self, attention: Attention, *parts: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [G, S, D] of latents in two parts [S, r] of positions 0, 1, …, for this pass alone."""
        assert attention.latent is not None
        wide = attention.latent.expand.many(torch.cat(parts, dim=1).to(self.dtype))
        held = torch.empty(2, attention.kv_heads, len(wide), self.decoder.traits.head_size, dtype=self.dtype)
        cos, sin = _rotations(attention.rope, 0, len(wide))
        queries, keys, values = _array(self._no_heads()), _array(held[0]), _array(held[1])
        arrays = _array(wide), _bias(attention.latent.expand), _NONE, _weight(attention.k_norm), self._eps, cos, sin
        self.crew.share(len(wide), lambda first, last: self._kernels.place_rows(*arrays, queries, keys, values, 0, first, last))
        return held[0], held[1]

    def _attended(self, queries: Tensor, count: int, kv: KeyValues, reach: Reach, site: Site) -> Tensor:
        """Attention [P or T, H, D] of queries [H, P, D], of which T = `count` count."""
        plain = reach == FULL and not site.cap
        if plain and tiled.fits(queries, kv.keys):
            return tiled.attend(queries, kv.keys, kv.values, count, site.scale)
        queries = queries[:, :count]
        if plain:
            return attend_after(queries, kv.keys, kv.values, site.scale)
        return attend_in_blocks(queries.transpose(0, 1), kv, kv.positions[-count:], reach, site).to(self.dtype)

    def _placed(self, attention: Attention, qkv: Tensor, keys: Tensor, values: Tensor, slot: int, position: int) -> Tensor:
        """Queries [H, P, D], rows padded; keys and values go into slots of `keys` and `values` [G, capacity, D]."""
        T, size = len(qkv), self.decoder.traits.head_size
        queries = torch.empty(attention.query_heads, self._padded(T), size, dtype=self.dtype)
        norms = _weight(attention.q_norm), _weight(attention.k_norm)
        cos, sin = _rotations(attention.rope, position, T)
        held = _array(keys), _array(values)
        arrays = (_array(qkv), _bias(attention.qkv), *norms, self._eps, cos, sin, _array(queries), *held, slot)
        self.crew.share(T, lambda first, last: self._kernels.place_rows(*arrays, first, last))
        return queries

    @property
    def _eps(self) -> np.float32:
        return np.float32(self.decoder.traits.eps)


def _sides(slots: Slots | None, rows: int) -> Sides | None:
    """Room for both forms of what a pass sees, where it sees codes."""
    coded = None if slots is None else slots.coded
    return None if slots is None or coded is None or not coded.seen[-1] else Sides(slots, coded, rows)


def _attended_sides(queries: Tensor, count: int, keys: Tensor, values: Tensor, edges: Edges, site: Site) -> Tensor:
    """As `Prompt._attended`, over both sides."""
    if tiled.fits(queries, keys):
        return tiled.attend(queries, keys, values, count, site.scale, edges)
    return attend_sides(queries[:, :count], keys, values, edges, site.scale)


def _linears(block: Block) -> tuple[Linear, ...]:
    """The products of a block that go through `many`."""
    if feeds_plainly(block):
        return linears_of(block)
    mixture, split, attention = mixture_of(block), split_of(block), (block.attention.qkv, block.attention.out)
    if mixture is not None:
        return *attention, *(linear for expert in mixture.members for linear in (expert.gate_up, expert.down))
    return attention if split is None else (*attention, *split.gate_ups, split.down)


def _bias(linear: Linear) -> np.ndarray:
    return _NONE if linear.bias is None else linear.bias.float().numpy()


def _weight(norm: RmsNorm | None) -> np.ndarray:
    return _NONE if norm is None else norm.weight.numpy()


def _array(x: Tensor) -> np.ndarray:
    """As compiled code sees it: bfloat16 is held in uint16."""
    return x.numpy() if x.dtype == torch.float32 else x.view(torch.uint16).numpy()


def _rotations(rope: RopeTable | None, position: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines [T, half] from `position` on."""
    if rope is None:
        return np.empty((rows, 0), np.float32), np.empty((rows, 0), np.float32)
    return rope.cos[position : position + rows].numpy(), rope.sin[position : position + rows].numpy()
