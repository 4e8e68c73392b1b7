"""Shared KV heads that were trained for a model: what stands in the place of its own, and how W_q and W_o go along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from core.decoder.plan import Computed, LayerPlan, Plan
from core.decoder.traits import Traits
from core.distill import adapter_file
from core.errors import BadInput


@dataclass(frozen=True)
class TrainedHeads:
    """S shared heads of one layer in the place of G trained ones.

    k, v [S·D, C] with biases [S·D], empty where the model has none. W_q and W_o are turned by a matrix for each trained head,
    q_turns and o_turns [G, D, D], and changed by products of rank r: q_up [H·D, r] q_down [r, C], o_up [C, r] o_down [r, H·D].
    """

    k: Tensor
    v: Tensor
    k_bias: Tensor
    v_bias: Tensor
    q_turns: Tensor
    o_turns: Tensor
    q_down: Tensor
    q_up: Tensor
    o_down: Tensor
    o_up: Tensor

    def queries(self, stored: Tensor) -> Tensor:
        """W_q [H·D, C] from the stored one."""
        return self.turned(stored) + self.q_up @ self.q_down

    def turned(self, rows: Tensor) -> Tensor:
        """Rows [H·D, C] of queries as the shared keys want them."""
        turns = self._of_query_heads(self.q_turns, len(rows))
        return torch.einsum("hij,hic->hjc", turns, rows.reshape(*turns.shape[:2], -1)).reshape(rows.shape)

    def outputs(self, stored: Tensor) -> Tensor:
        """W_o [C, H·D] from the stored one."""
        turns = self._of_query_heads(self.o_turns, stored.shape[1])
        turned = torch.einsum("chi,hij->chj", stored.reshape(len(stored), *turns.shape[:2]), turns)
        return turned.reshape(stored.shape) + self.o_up @ self.o_down

    def _of_query_heads(self, turns: Tensor, size: int) -> Tensor:
        """[H, D, D], for H·D = `size`."""
        return turns.repeat_interleave(size // turns.shape[0] // turns.shape[1], dim=0)

    def named(self, layer: int) -> dict[str, Tensor]:
        """The tensors under the names that an adapter file gives them."""
        return {f"layers.{layer}.{part}": getattr(self, part) for part in PARTS}


PARTS = tuple(part.name for part in fields(TrainedHeads))


def put_trained_heads(plan: Plan, file: Path, layers: Sequence[int], kv_heads: int) -> None:
    """Rewrite `layers` of `plan`, whose heads are pooled already, by what `file` holds for them, all in bfloat16.

    Raises BadInput where the file is damaged or was trained for another model.
    """
    tensors = adapter_file.read(file)
    for index in layers:
        layer = plan.layers[index]
        heads = _heads_in(tensors, index, _shapes(layer, plan.traits, kv_heads), file)
        new = heads.queries(layer.q.dense()), heads.k, heads.v, heads.outputs(layer.o.dense())
        layer.q, layer.k, layer.v, layer.o = (Computed(matrix.bfloat16()) for matrix in new)
        if "q" in layer.biases:
            turned = heads.turned(layer.biases["q"][:, None].float())[:, 0]
            layer.biases |= {"q": turned, "k": heads.k_bias, "v": heads.v_bias}


def _heads_in(tensors: Mapping[str, Tensor], layer: int, shapes: Mapping[str, tuple[int, ...]], file: Path) -> TrainedHeads:
    found = {part: tensors.get(f"layers.{layer}.{part}") for part in PARTS}
    rank = 0 if found["q_down"] is None else len(found["q_down"])
    wanted = {part: tuple(rank if size == -1 else size for size in shape) for part, shape in shapes.items()}
    if wanted != {part: tuple(tensor.shape) for part, tensor in found.items() if tensor is not None}:
        raise BadInput(f"{file}: holds no shared heads that fit layer {layer}; they belong to another model")
    return TrainedHeads(**{part: tensor.float() for part, tensor in found.items() if tensor is not None})


def _shapes(layer: LayerPlan, traits: Traits, kv_heads: int) -> dict[str, tuple[int, ...]]:
    """Of every part; −1 is the rank."""
    (rows, width), D, G = layer.q.shape, traits.head_size, traits.kv_heads
    shared, bias = kv_heads * D, kv_heads * D if "k" in layer.biases else 0
    return {
        "k": (shared, width), "v": (shared, width), "k_bias": (bias,), "v_bias": (bias,),
        "q_turns": (G, D, D), "o_turns": (G, D, D),
        "q_down": (-1, width), "q_up": (rows, -1), "o_down": (-1, rows), "o_up": (layer.o.shape[0], -1),
    }  # fmt: skip
