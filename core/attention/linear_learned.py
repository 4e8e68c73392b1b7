"""Linear attention with feature maps that were trained to give the model's own softmax weights (Hedgehog)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, sqrt
from pathlib import Path

import torch
from torch import Tensor

from core.attention.linear import linear_attention
from core.attention.mechanism import Mechanism, Site
from core.attention.performer import orthogonal_directions
from core.attention.table import LinearLearnedOptions
from core.distill import adapter_file
from core.errors import BadInput
from core.models.adapters import adapter_of


@dataclass(frozen=True)
class LearnedFeatures:
    """φ(x) = exp([Wx, −Wx] + b), with a W and b for each query head and for each KV head.

    query_maps [H, D, M/2], query_biases [H, M], key_maps [G, D, M/2], key_biases [G, M], float32.
    """

    query_maps: Tensor
    query_biases: Tensor
    key_maps: Tensor
    key_biases: Tensor

    @property
    def count(self) -> int:
        return self.key_biases.shape[1]

    def queries(self, q: Tensor) -> Tensor:
        G, J, _, D = q.shape
        mapped = q @ self.query_maps.view(G, J, D, -1)
        return torch.cat((mapped, -mapped), dim=-1) + self.query_biases.view(G, J, 1, -1)

    def keys(self, k: Tensor) -> Tensor:
        mapped = k @ self.key_maps
        return torch.cat((mapped, -mapped), dim=-1) + self.key_biases[:, None]

    def named(self, layer: int) -> dict[str, Tensor]:
        """The tensors under the names that an adapter file gives them."""
        return {f"layers.{layer}.{name}": getattr(self, name) for name in PARTS}


PARTS = ("query_maps", "query_biases", "key_maps", "key_biases")


def first_features(site: Site, count: int) -> LearnedFeatures:
    """Where training begins: `count` features that hardly tell keys apart and weigh each like a score of zero."""
    H, G, D = site.query_heads, site.kv_heads, site.head_size
    directions = orthogonal_directions(count // 2, D, torch.Generator().manual_seed(site.layer)).T * sqrt(site.scale) / 10
    biases = torch.full((H, count), -log(count)), torch.zeros(G, count)
    return LearnedFeatures(directions.repeat(H, 1, 1), biases[0], directions.repeat(G, 1, 1), biases[1])


def features_in(tensors: Mapping[str, Tensor], site: Site, file: Path) -> LearnedFeatures:
    """The maps of a layer; BadInput where `file`, whose tensors they are, has none for it or they are of another shape."""
    H, G, D = site.query_heads, site.kv_heads, site.head_size
    found = {name: tensors.get(f"layers.{site.layer}.{name}") for name in PARTS}
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items() if tensor is not None}
    count = shapes.get("key_biases", (0, 0))[-1]
    wanted = {
        "query_maps": (H, D, count // 2), "query_biases": (H, count),
        "key_maps": (G, D, count // 2), "key_biases": (G, count),
    }  # fmt: skip
    if shapes != wanted or count % 2:
        raise BadInput(
            f"{file}: holds no feature maps for layer {site.layer} with {H} query heads and {G} KV heads of {D}; "
            "they belong to another model"
        )
    return LearnedFeatures(**{name: tensor.float() for name, tensor in found.items() if tensor is not None})


def linear_learned(options: LinearLearnedOptions, site: Site) -> Mechanism:
    """Linear attention in a layer. Raises BadInput where no maps were trained for the model, or their file is damaged."""
    assert site.info is not None
    file = adapter_of("linear_learned", site.info, options.adapter)
    return linear_attention(site, lambda: features_in(adapter_file.read(file), site, file), options.window, options.sinks)
