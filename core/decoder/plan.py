"""A model before it is built: which stored matrix goes where. Heads and ffn techniques rewrite it, weights builds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from core.decoder.traits import Experts, Traits, traits_of
from core.models.checkpoint import Checkpoint


class Source(Protocol):
    """A stored matrix [out, in] that knows its own format."""

    @property
    def kind(self) -> str:
        """`F32`, `BF16`, `Q4_1`, …"""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def nbytes(self) -> int: ...

    def dense(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Its exact values."""

    def rows(self, index: Any) -> Source:
        """The chosen rows, in the same format."""


@dataclass(frozen=True)
class Computed:
    """A matrix that a technique computed, and that no file stores."""

    tensor: torch.Tensor

    @property
    def kind(self) -> str:
        return {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}[self.tensor.dtype]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def nbytes(self) -> int:
        return self.tensor.nbytes

    def dense(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        return self.tensor.to(dtype or torch.float32)

    def rows(self, index: Any) -> Computed:
        return Computed(self.tensor[torch.as_tensor(index)])


@dataclass
class GatedPlan:
    """down(act(gate x) · up x); gate and up [F, C], down [C, F]; biases under the names of the matrices."""

    gate: Source
    up: Source
    down: Source
    biases: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass
class SplitPlan:
    """A dense FFN split into experts of its neurons: groups[e] are neuron indices, router [E, C] and its bias [E]."""

    dense: GatedPlan
    groups: tuple[torch.Tensor, ...]
    router: torch.Tensor
    router_bias: torch.Tensor
    used: int


@dataclass
class ExpertsPlan:
    """A trained mixture of experts. router [E, C]."""

    traits: Experts
    router: Source
    experts: list[GatedPlan]
    shared: GatedPlan | None = None
    shared_gate: Source | None = None  # [1, C]


@dataclass
class LatentPlan:
    """Keys and values by way of r numbers: c = compress x + offset, and k with v = expand c + mean, as W_k and W_v gave them.

    compress [r, C], offset [r], expand [2·G·D, r], mean [2·G·D].
    """

    compress: Source
    offset: torch.Tensor
    expand: torch.Tensor
    mean: torch.Tensor


@dataclass
class LayerPlan:
    """Matrices of one layer. q [H·D, C], k and v [G·D, C], o [C, H·D]; biases by the same letters.

    latent: what stands in for k and v, where a technique has put it.
    """

    q: Source
    k: Source
    v: Source
    o: Source
    kv_heads: int
    ffn: GatedPlan | SplitPlan | ExpertsPlan
    norms: dict[str, torch.Tensor]
    biases: dict[str, torch.Tensor] = field(default_factory=dict)
    latent: LatentPlan | None = None


@dataclass
class Plan:
    """A whole model. head is the embedding itself where they are tied."""

    traits: Traits
    config: dict[str, Any]
    layers: list[LayerPlan]
    embed: Source
    head: Source
    norm: torch.Tensor


def plan_of(checkpoint: Checkpoint) -> Plan:
    """Where each tensor of `checkpoint` goes; BadInput when the architecture is not in the table of traits."""
    traits = traits_of(checkpoint.config)
    names = frozenset(checkpoint.names())
    reader = _Reader(checkpoint, names, traits)
    embed = checkpoint.tensor("model.embed_tokens.weight")
    head = checkpoint.tensor("lm_head.weight") if "lm_head.weight" in names and not traits.tied_head else embed
    layers = [reader.layer(index) for index in range(traits.layers)]
    return Plan(traits, dict(checkpoint.config), layers, embed, head, reader.norm("model.norm.weight"))


_NORM_NAMES = {
    "pre": {"before_attention": "input_layernorm", "before_ffn": "post_attention_layernorm"},
    "post": {"after_attention": "post_attention_layernorm", "after_ffn": "post_feedforward_layernorm"},
    "sandwich": {
        "before_attention": "input_layernorm",
        "after_attention": "post_attention_layernorm",
        "before_ffn": "pre_feedforward_layernorm",
        "after_ffn": "post_feedforward_layernorm",
    },
}


@dataclass(frozen=True)
class _Reader:
    checkpoint: Checkpoint
    names: frozenset[str]
    traits: Traits

    def layer(self, index: int) -> LayerPlan:
        prefix = f"model.layers.{index}."
        q, k, v = self._qkv(f"{prefix}self_attn.")
        norms = {place: self.norm(f"{prefix}{name}.weight") for place, name in _NORM_NAMES[self.traits.norm_place].items()}
        if self.traits.qk_norm != "none":
            norms |= {name: self.norm(f"{prefix}self_attn.{name}.weight") for name in ("q_norm", "k_norm")}
        biases = {letter: f"{prefix}self_attn.{letter}_proj.bias" for letter in "qkvo"}
        return LayerPlan(
            q, k, v, self.checkpoint.tensor(f"{prefix}self_attn.o_proj.weight"), self.traits.kv_heads,
            self._ffn(index, prefix), norms,
            {letter: self.checkpoint.tensor(name).dense() for letter, name in biases.items() if name in self.names},
        )  # fmt: skip

    def norm(self, name: str) -> torch.Tensor:
        return self.checkpoint.tensor(name).dense() + self.traits.norm_offset

    def _qkv(self, prefix: str) -> Sequence[Source]:
        if f"{prefix}qkv_proj.weight" not in self.names:
            return [self.checkpoint.tensor(f"{prefix}{letter}_proj.weight") for letter in "qkv"]
        H, G, D = self.traits.query_heads, self.traits.kv_heads, self.traits.head_size
        return _split(self.checkpoint.tensor(f"{prefix}qkv_proj.weight"), (H * D, G * D, G * D))

    def _ffn(self, index: int, prefix: str) -> GatedPlan | ExpertsPlan:
        experts = self.traits.experts[index]
        if experts is None:
            return self._gated(f"{prefix}mlp.")
        mixtral = f"{prefix}block_sparse_moe.gate.weight" in self.names
        mlp = f"{prefix}block_sparse_moe." if mixtral else f"{prefix}mlp."
        shared = bool(experts.shared_width)
        return ExpertsPlan(
            experts,
            self.checkpoint.tensor(f"{mlp}gate.weight"),
            [self._gated(f"{mlp}experts.{e}.", ("w1", "w3", "w2") if mixtral else _GATED) for e in range(experts.count)],
            self._gated(f"{mlp}shared_expert.") if shared else None,
            self.checkpoint.tensor(f"{mlp}shared_expert_gate.weight") if shared else None,
        )

    def _gated(self, prefix: str, names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")) -> GatedPlan:
        if f"{prefix}gate_up_proj.weight" in self.names:
            F = self.traits.ffn_width
            gate, up = _split(self.checkpoint.tensor(f"{prefix}gate_up_proj.weight"), (F, F))
            return GatedPlan(gate, up, self.checkpoint.tensor(f"{prefix}down_proj.weight"))
        biases = {part: f"{prefix}{name}.bias" for part, name in zip(("gate", "up", "down"), names)}
        gate, up, down = (self.checkpoint.tensor(f"{prefix}{name}.weight") for name in names)
        found = {part: self.checkpoint.tensor(name).dense() for part, name in biases.items() if name in self.names}
        return GatedPlan(gate, up, down, found)


_GATED = ("gate_proj", "up_proj", "down_proj")


def _split(source: Source, sizes: Sequence[int]) -> list[Source]:
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return [source.rows(slice(start, start + size)) for start, size in zip(starts, sizes, strict=True)]
