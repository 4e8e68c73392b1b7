"""From a plan to a decoder, with a weight technique deciding how every matrix is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from core.decoder.feed_forward import ACTIVATIONS, Gated, Mixture, Split
from core.decoder.linear import Dense, Linear
from core.decoder.model import Attention, Block, Decoder, FeedForward, RmsNorm
from core.decoder.plan import ExpertsPlan, GatedPlan, LayerPlan, Plan, Source, SplitPlan
from core.decoder.rope import RopeTable
from core.decoder.traits import Rope


class Weights(Protocol):
    """How matrices are stored and multiplied."""

    kv_dtype: torch.dtype

    def linear(self, sources: Sequence[Source], bias: torch.Tensor | None, layer: int | None) -> Linear:
        """One product over the rows of all `sources`; layer None is the head."""

    def embedding(self, source: Source) -> Callable[[torch.Tensor], torch.Tensor]:
        """Token ids [T] to [T, C] float32."""


Progress = Callable[[str, int, int], None]


def build(plan: Plan, weights: Weights, progress: Progress) -> Decoder:
    """Build every matrix of `plan` with `weights`, layer by layer, calling `progress('weights', done, total)`."""
    ropes = {rope: RopeTable(rope) for rope in plan.traits.ropes if rope is not None}
    blocks = []
    for index, layer in enumerate(plan.layers):
        progress("weights", index, plan.traits.layers + 1)
        blocks.append(_block(plan, index, layer, weights, ropes))
    progress("weights", plan.traits.layers, plan.traits.layers + 1)
    head = weights.linear([plan.head], None, None)
    embed = weights.embedding(plan.embed)
    progress("weights", plan.traits.layers + 1, plan.traits.layers + 1)
    tied = plan.head is plan.embed
    norm = RmsNorm(plan.norm, plan.traits.eps)
    return Decoder(plan.traits, embed, blocks, norm, head, 0 if tied else plan.embed.nbytes, list(ropes.values()))


def _block(plan: Plan, index: int, layer: LayerPlan, weights: Weights, ropes: dict[Rope, RopeTable]) -> Block:
    norms = {place: RmsNorm(weight, plan.traits.eps) for place, weight in layer.norms.items()}
    return Block(
        _attention(plan, index, layer, weights, norms, ropes),
        _feed_forward(plan, index, layer.ffn, weights),
        norms.get("before_attention"),
        norms.get("after_attention"),
        norms.get("before_ffn"),
        norms.get("after_ffn"),
    )


def _attention(
    plan: Plan, index: int, layer: LayerPlan, weights: Weights, norms: dict[str, RmsNorm], ropes: dict[Rope, RopeTable]
) -> Attention:
    traits, biases = plan.traits, layer.biases
    bias = torch.cat([biases[letter] for letter in "qkv"]) if "q" in biases else None
    rope = traits.ropes[index]
    return Attention(
        weights.linear([layer.q, layer.k, layer.v], bias, index),
        weights.linear([layer.o], biases.get("o"), index),
        traits.query_heads,
        layer.kv_heads,
        norms.get("q_norm"),
        norms.get("k_norm"),
        traits.qk_norm == "row",
        None if rope is None else ropes[rope],
        traits.windows[index],
    )


def _joined_bias(part: GatedPlan, neurons: slice | torch.Tensor) -> torch.Tensor | None:
    """The biases of gate and up for `neurons`, as one vector."""
    return torch.cat([part.biases["gate"][neurons], part.biases["up"][neurons]]) if "gate" in part.biases else None


def _feed_forward(plan: Plan, index: int, ffn: GatedPlan | SplitPlan | ExpertsPlan, weights: Weights) -> FeedForward:
    activation = ACTIVATIONS[plan.traits.activation]

    def gated(part: GatedPlan) -> Gated:
        gate_up = weights.linear([part.gate, part.up], _joined_bias(part, slice(None)), index)
        return Gated(gate_up, weights.linear([part.down], part.biases.get("down"), index), activation)

    match ffn:
        case GatedPlan():
            return gated(ffn)
        case SplitPlan():
            dense = ffn.dense
            gate_ups = [
                weights.linear([dense.gate.rows(group), dense.up.rows(group)], _joined_bias(dense, group), index)
                for group in ffn.groups
            ]
            down = weights.linear([dense.down], dense.biases.get("down"), index)
            return Split(gate_ups, ffn.groups, down, Dense(ffn.router, ffn.router_bias), ffn.used, activation)
        case ExpertsPlan():
            from core.weights.cast import full_precision

            return Mixture(
                full_precision(ffn.router),  # routing is decided in float32: it is tiny and a flip changes the token
                [gated(expert) for expert in ffn.experts],
                ffn.traits.used,
                ffn.traits.normalise,
                None if ffn.shared is None else gated(ffn.shared),
                None if ffn.shared_gate is None else full_precision(ffn.shared_gate),
            )
