"""Feed-forward techniques: how much of the FFN each token uses."""

from dataclasses import dataclass

from core.technique import LOSSLESS, Exactness, Technique, layers_option, option


@dataclass(frozen=True)
class MoefyOptions:
    experts: int = option(8, "experts the FFN is split into; must divide its width", low=2, high=1024)
    top_k: int = option(6, "experts each token uses", low=1, high=1024)
    layers: str = layers_option()


@dataclass(frozen=True)
class ExpertsOptions:
    top_k: int = option(1, "experts each token uses in a trained MoE", low=1, high=1024)
    layers: str = layers_option()


TECHNIQUES = (
    Technique(
        "ffn",
        "dense",
        "The feed-forward block as trained (all of it, or the router's own top-k).",
        LOSSLESS,
        "Vaswani et al. 2017, arXiv 1706.03762",
        "core.ffn.dense:apply",
    ),
    Technique(
        "ffn",
        "moefy",
        "A dense FFN split into experts of co-active neurons; a router picks some for each token.",
        Exactness("exact_at", "top_k = experts"),
        "Zhang et al. 2022 (MoEfication), arXiv 2110.01786",
        "core.ffn.moefy:apply",
        MoefyOptions,
    ),
    Technique(
        "ffn",
        "experts",
        "A trained MoE with more or fewer active experts than it was trained for.",
        Exactness("exact_at", "top_k = the trained one"),
        "Jiang et al. 2024 (Mixtral), arXiv 2401.04088",
        "core.ffn.experts:apply",
        ExpertsOptions,
    ),
)
