"""From a plan to a decoder, with a weight technique deciding how every matrix is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from core.decoder.feed_forward import ACTIVATIONS, Gated, Mixture, Split
from core.decoder.linear import Dense, Linear
from core.decoder.model import Attention, Block, Decoder, FeedForward, Latent, RmsNorm
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
    traits, rope = plan.traits, plan.traits.ropes[index]
    return Attention(
        _inputs(layer, weights, index),
        weights.linear([layer.o], layer.biases.get("o"), index),
        traits.query_heads,
        layer.kv_heads,
        norms.get("q_norm"),
        norms.get("k_norm"),
        traits.qk_norm == "row",
        None if rope is None else ropes[rope],
        traits.windows[index],
        traits.clip_qkv,
        _latent(layer, weights),
    )


def _inputs(layer: LayerPlan, weights: Weights, index: int) -> Linear:
    """Queries, and keys and values or their latent."""
    biases, latent = layer.biases, layer.latent
    if latent is None:
        bias = torch.cat([biases[letter] for letter in "qkv"]) if "q" in biases else None
        return weights.linear([layer.q, layer.k, layer.v], bias, index)
    query_bias = biases.get("q", torch.zeros(layer.q.shape[0]))
    return weights.linear([layer.q, latent.compress], torch.cat((query_bias, latent.offset)), index)


def _latent(layer: LayerPlan, weights: Weights) -> Latent | None:
    """Latents are expanded in the number format in which they are cached."""
    if layer.latent is None:
        return None
    rank = layer.latent.expand.shape[1]
    return Latent(Dense(layer.latent.expand.to(weights.kv_dtype), layer.latent.mean), (rank - rank // 2, rank // 2))


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
            return Split(gate_ups, torch.stack(ffn.groups), down, Dense(ffn.router, ffn.router_bias), ffn.used, activation)
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
