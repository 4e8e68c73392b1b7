"""KV-cache techniques: what is kept of the keys and values of earlier tokens, and how it is laid out."""

from dataclasses import dataclass

from core.technique import LOSSLESS, Exactness, Technique, option


@dataclass(frozen=True)
class StaticOptions:
    capacity: int = option(0, "tokens the buffer holds; 0 takes prompt + new tokens", low=0, high=1_048_576, unit="tokens")


@dataclass(frozen=True)
class RollingOptions:
    window: int = option(256, "most recent tokens kept", low=1, high=1_048_576, unit="tokens")


@dataclass(frozen=True)
class SinksOptions:
    sinks: int = option(4, "first tokens kept for good", low=0, high=65_536, unit="tokens")
    window: int = option(256, "most recent tokens kept besides them", low=1, high=1_048_576, unit="tokens")


TECHNIQUES = (
    Technique(
        "cache",
        "off",
        "Nothing is kept: every step computes the whole sequence again.",
        LOSSLESS,
        "Zhou et al. 2024, arXiv 2404.14294, section 2.1",
        "core.cache.off:Off",
    ),
    Technique(
        "cache",
        "dynamic",
        "Keys and values of every token, in buffers that grow.",
        LOSSLESS,
        "Pope et al. 2022, arXiv 2211.05102",
        "core.cache.dynamic:Dynamic",
    ),
    Technique(
        "cache",
        "static",
        "Keys and values of every token, in one buffer allocated before the run.",
        LOSSLESS,
        "Pope et al. 2022, arXiv 2211.05102",
        "core.cache.static:Static",
        StaticOptions,
    ),
    Technique(
        "cache",
        "rolling",
        "Only the most recent tokens, in a ring buffer of fixed size.",
        Exactness("exact_at", "window ≥ length"),
        "Jiang et al. 2023 (Mistral 7B), arXiv 2310.06825",
        "core.cache.rolling:Rolling",
        RollingOptions,
    ),
    Technique(
        "cache",
        "sinks",
        "The first few tokens (attention sinks) and the most recent ones, at positions counted inside the cache.",
        Exactness("exact_at", "sinks + window ≥ length"),
        "Xiao et al. 2023 (StreamingLLM), arXiv 2309.17453",
        "core.cache.sinks:Sinks",
        SinksOptions,
    ),
)
