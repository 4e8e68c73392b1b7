"""KV-cache techniques: what is kept of the keys and values of earlier tokens, and how it is laid out."""

from dataclasses import dataclass

from core.technique import LOSSLESS, Exactness, Technique, option

_GROUPS = (16, 32, 64, 128)


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


@dataclass(frozen=True)
class QuantizedOptions:
    bits: int = option(4, "bits of a stored number", choices=(8, 4, 2))
    group_size: int = option(
        32, "tokens whose keys share scales; values share one over twice as many channels", choices=_GROUPS
    )
    residual: int = option(24, "most recent tokens kept exact, at least", low=1, high=65_536, unit="tokens")
    sinks: int = option(4, "first tokens kept exact", low=0, high=65_536, unit="tokens")


@dataclass(frozen=True)
class H2OOptions:
    budget: float = option(0.2, "tokens held in each head; up to 1 a share of the run's", low=0.001, high=1_048_576)
    recent: float = option(0.5, "most recent ones among them; up to 1 a share of the budget", low=0.0, high=1_048_576)


@dataclass(frozen=True)
class SnapKVOptions:
    budget: float = option(0.25, "prompt tokens kept in each head; up to 1 a share of the prompt's", low=0.001, high=1_048_576)
    window: int = option(32, "last prompt tokens, whose attention decides, and which stay", low=1, high=1024, unit="tokens")
    kernel: int = option(7, "neighbouring positions that share the highest attention among them", low=1, high=63)


@dataclass(frozen=True)
class PagedOptions:
    block_size: int = option(16, "tokens of a block", low=1, high=4096, unit="tokens")


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
    Technique(
        "cache",
        "quantized",
        "Keys quantized by channel and values by token, to a few bits; the most recent tokens stay exact.",
        Exactness("exact_at", "residual ≥ length"),
        "Liu et al. 2024 (KIVI), arXiv 2402.02750",
        "core.cache.quantized:Quantized",
        QuantizedOptions,
    ),
    Technique(
        "cache",
        "h2o",
        "Heavy hitters: in each head the tokens that got the most attention so far, and the most recent ones.",
        Exactness("exact_at", "budget ≥ length"),
        "Zhang et al. 2023 (H2O), arXiv 2306.14048",
        "core.cache.h2o:H2O",
        H2OOptions,
    ),
    Technique(
        "cache",
        "snapkv",
        "After the prompt, in each head only the tokens that the end of the prompt looks at; new tokens are all kept.",
        Exactness("exact_at", "budget ≥ prompt"),
        "Li et al. 2024 (SnapKV), arXiv 2404.14469",
        "core.cache.snapkv:SnapKV",
        SnapKVOptions,
    ),
    Technique(
        "cache",
        "paged",
        "Blocks with a table for each sequence: runs with the same beginning share it, branches share all until they part.",
        LOSSLESS,
        "Kwon et al. 2023 (PagedAttention), arXiv 2309.06180",
        "core.cache.paged:Paged",
        PagedOptions,
    ),
    Technique(
        "cache",
        "offloaded",
        "Every token in a memory-mapped file (on a GPU: in host memory); only the layer at work and the next are at hand.",
        LOSSLESS,
        "Sheng et al. 2023 (FlexGen), arXiv 2303.06865",
        "core.cache.offloaded:Offloaded",
    ),
)
