"""Attention techniques: which keys a query may see."""

from dataclasses import dataclass
from typing import Any

from core.technique import LOSSLESS, Exactness, Technique, layers_option, option


@dataclass(frozen=True)
class WindowOptions:
    window: int = option(256, "most recent tokens a query sees, itself included", low=1, high=1_048_576, unit="tokens")
    layers: str = layers_option()


@dataclass(frozen=True)
class SinkWindowOptions:
    sinks: int = option(4, "first tokens that every query keeps seeing", low=0, high=65_536, unit="tokens")
    window: int = option(256, "most recent tokens a query sees, itself included", low=1, high=1_048_576, unit="tokens")
    layers: str = layers_option()


@dataclass(frozen=True)
class DilatedOptions:
    window: int = option(128, "tokens a query sees, itself included", low=1, high=1_048_576, unit="tokens")
    dilation: int = option(4, "distance from each seen token to the next", low=1, high=65_536, unit="tokens")
    layers: str = layers_option()


@dataclass(frozen=True)
class StridedOptions:
    window: int = option(64, "most recent tokens a query sees, itself included", low=1, high=1_048_576, unit="tokens")
    stride: int = option(64, "one token in so many is seen before the window", low=1, high=1_048_576, unit="tokens")
    layers: str = layers_option()


@dataclass(frozen=True)
class LocalGlobalOptions:
    window: int = option(128, "most recent tokens a query sees, itself included", low=1, high=1_048_576, unit="tokens")
    globals: int = option(4, "first tokens that every query keeps seeing", low=0, high=65_536, unit="tokens")
    every: int = option(64, "one position in so many that every query sees; 0 is none", low=0, high=1_048_576, unit="tokens")
    layers: str = layers_option()


@dataclass(frozen=True)
class BigBirdOptions:
    block: int = option(32, "tokens of a block", low=1, high=65_536, unit="tokens")
    window_blocks: int = option(3, "most recent blocks a query sees, its own included", low=1, high=65_536, unit="blocks")
    global_blocks: int = option(1, "first blocks that every query sees", low=0, high=65_536, unit="blocks")
    random_blocks: int = option(
        2, "blocks in between, drawn for each block of queries and KV head", low=0, high=64, unit="blocks"
    )
    seed: int = option(0, "of the drawing", low=0, high=2**31 - 1)
    layers: str = layers_option()


@dataclass(frozen=True)
class BlockTopkOptions:
    block: int = option(32, "tokens of a block", low=1, high=65_536, unit="tokens")
    blocks: int = option(6, "blocks that each query and KV head chooses", low=0, high=65_536, unit="blocks")
    sink_blocks: int = option(1, "first blocks that are always seen", low=0, high=65_536, unit="blocks")
    local_blocks: int = option(2, "most recent blocks that are always seen, the query's own included", low=1, high=65_536,
                               unit="blocks")  # fmt: skip
    scores: str = option(
        "bounds",
        "how a block is scored: by the highest score its keys could have (bounds), or by their mean",
        choices=("bounds", "mean"),
    )
    layers: str = layers_option()


@dataclass(frozen=True)
class TopkOptions:
    k: int = option(
        64, "keys that each query and head sees: those with the highest scores", low=1, high=1_048_576, unit="tokens"
    )
    layers: str = layers_option()


@dataclass(frozen=True)
class LshOptions:
    hashes: int = option(4, "rounds: a key is seen when it shares the query's bucket in any of them", low=1, high=64)
    buckets: int = option(16, "buckets of a round, an even number", low=2, high=254)
    window: int = option(32, "most recent tokens that are always seen, the query itself included", low=1, high=1_048_576,
                         unit="tokens")  # fmt: skip
    seed: int = option(0, "of the random rotations", low=0, high=2**31 - 1)
    layers: str = layers_option()


def _local_window() -> Any:
    return option(64, "latest keys that are weighed by softmax; 0 for none", low=0, high=65_536, unit="tokens")


def _sinks() -> Any:
    return option(4, "first tokens that every query sees exactly", low=0, high=4096, unit="tokens")


@dataclass(frozen=True)
class LinearEluOptions:
    window: int = _local_window()
    sinks: int = _sinks()
    layers: str = layers_option()


@dataclass(frozen=True)
class PerformerOptions:
    features: int = option(256, "random features of each KV head", low=1, high=4096)
    seed: int = option(0, "seed of the random features", low=0, high=2**31 - 1)
    window: int = _local_window()
    sinks: int = _sinks()
    layers: str = layers_option()


@dataclass(frozen=True)
class LinearLearnedOptions:
    window: int = _local_window()
    sinks: int = _sinks()
    adapter: str = option("", "file of trained feature maps; empty takes those that were trained for the model")
    layers: str = layers_option()


@dataclass(frozen=True)
class LinformerOptions:
    block: int = option(64, "tokens that are compressed together", low=1, high=4096, unit="tokens")
    rank: int = option(8, "rows that stand for a block", low=1, high=4096)
    local: int = option(1, "blocks before the current one that are seen exactly", low=0, high=1024)
    sinks: int = _sinks()
    layers: str = layers_option()


@dataclass(frozen=True)
class LandmarkOptions:
    segment: int = option(16, "tokens that a landmark stands for", low=1, high=4096, unit="tokens")
    summary: str = option("nystrom", "what stands for a segment", choices=("nystrom", "mean"))
    local: int = option(4, "segments before the current one that are seen exactly", low=0, high=1024)
    sinks: int = _sinks()
    layers: str = layers_option()


_AT_WINDOW = Exactness("exact_at", "window ≥ length")

TECHNIQUES = (
    Technique(
        "attention",
        "full",
        "The model's own pattern: every earlier token, or its trained sliding window.",
        LOSSLESS,
        "Vaswani et al. 2017, arXiv 1706.03762",
        "core.attention.softmax:full",
    ),
    Technique(
        "attention",
        "window",
        "Each query sees only the most recent tokens.",
        Exactness("exact_at", "window ≥ length"),
        "Beltagy et al. 2020 (Longformer), arXiv 2004.05150",
        "core.attention.softmax:window",
        WindowOptions,
    ),
    Technique(
        "attention",
        "sink_window",
        "The first few tokens (attention sinks) and the most recent ones.",
        Exactness("exact_at", "sinks + window ≥ length"),
        "Xiao et al. 2023 (StreamingLLM), arXiv 2309.17453",
        "core.attention.softmax:sink_window",
        SinkWindowOptions,
    ),
    Technique(
        "attention",
        "dilated",
        "Recent tokens with gaps between them, which reach further back for the same work.",
        Exactness("exact_at", "dilation = 1 and window ≥ length"),
        "Beltagy et al. 2020 (Longformer), arXiv 2004.05150",
        "core.attention.fixed:dilated",
        DilatedOptions,
    ),
    Technique(
        "attention",
        "strided",
        "A short window, and one token in each stride before it.",
        Exactness("exact_at", "window ≥ length"),
        "Child et al. 2019 (Sparse Transformer), arXiv 1904.10509",
        "core.attention.fixed:strided",
        StridedOptions,
    ),
    Technique(
        "attention",
        "local_global",
        "A window, and tokens that every query sees: the first ones and one in so many.",
        Exactness("exact_at", "window ≥ length"),
        "Beltagy et al. 2020 (Longformer), arXiv 2004.05150",
        "core.attention.fixed:local_global",
        LocalGlobalOptions,
    ),
    Technique(
        "attention",
        "bigbird",
        "Recent, first and random blocks of tokens; each KV head draws its own.",
        Exactness("exact_at", "block · window_blocks ≥ length + block"),
        "Zaheer et al. 2020 (BigBird), arXiv 2007.14062",
        "core.attention.fixed:bigbird",
        BigBirdOptions,
    ),
    Technique(
        "attention",
        "block_topk",
        "Each query chooses the blocks of keys that matter most to it, by a summary of each block.",
        Exactness("exact_at", "block · (sink_blocks + blocks + local_blocks) ≥ length + block"),
        "Tang et al. 2024 (Quest), arXiv 2406.10774; Lu et al. 2025 (MoBA), arXiv 2502.13189",
        "core.attention.block_topk:BlockTopk",
        BlockTopkOptions,
    ),
    Technique(
        "attention",
        "topk",
        "Only the k keys with the highest scores of each query and head: what an ideal choice would keep.",
        Exactness("exact_at", "k ≥ length"),
        "Gupta et al. 2021 (Memory-efficient transformers via top-k attention), arXiv 2106.06899",
        "core.attention.topk:Topk",
        TopkOptions,
    ),
    Technique(
        "attention",
        "lsh",
        "Keys that random rotations put into the query's bucket, and the most recent tokens.",
        Exactness("exact_at", "window ≥ length"),
        "Kitaev et al. 2020 (Reformer), arXiv 2001.04451",
        "core.attention.lsh:Lsh",
        LshOptions,
    ),
    Technique(
        "attention",
        "linear_elu",
        "Older keys in a state of constant size, through the feature map elu + 1; exact for the latest keys.",
        _AT_WINDOW,
        "Katharopoulos et al. 2020, arXiv 2006.16236; window: Zhang et al. 2024 (LoLCATs), arXiv 2410.10254",
        "core.attention.linear_elu:linear_elu",
        LinearEluOptions,
    ),
    Technique(
        "attention",
        "performer",
        "Older keys in a state of constant size, through random features that estimate the softmax kernel (FAVOR+).",
        _AT_WINDOW,
        "Choromanski et al. 2020 (Performer), arXiv 2009.14794",
        "core.attention.performer:performer",
        PerformerOptions,
    ),
    Technique(
        "attention",
        "linear_learned",
        "Older keys in a state of constant size, through feature maps trained to give the model's own softmax weights.",
        _AT_WINDOW,
        "Zhang et al. 2024 (Hedgehog), arXiv 2402.04347; window: Zhang et al. 2024 (LoLCATs), arXiv 2410.10254",
        "core.attention.linear_learned:linear_learned",
        LinearLearnedOptions,
    ),
    Technique(
        "attention",
        "linformer",
        "Past blocks projected to a few rows of pooled keys and values; exact for the latest blocks.",
        Exactness("exact_at", "rank = block"),
        "Wang et al. 2020 (Linformer), arXiv 2006.04768, made causal by blocks",
        "core.attention.linformer:linformer",
        LinformerOptions,
    ),
    Technique(
        "attention",
        "landmark",
        "Past segments through one landmark each, their mean or a Nyström approximation; exact for the latest segments.",
        Exactness("exact_at", "segment = 1"),
        "Xiong et al. 2021 (Nyströmformer), arXiv 2102.03902, made causal by segments",
        "core.attention.landmark:landmark",
        LandmarkOptions,
    ),
)
