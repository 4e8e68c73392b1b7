"""Attention techniques: which keys a query may see."""

from dataclasses import dataclass

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
)
