"""Decoding techniques: how many tokens one pass over the weights yields. All lossless."""

from dataclasses import dataclass

from core.technique import LOSSLESS, Technique, option


@dataclass(frozen=True)
class PromptLookupOptions:
    draft_tokens: int = option(4, "most tokens drafted a round", low=1, high=64, unit="tokens")
    ngram: int = option(3, "longest n-gram looked up in the text so far", low=1, high=16, unit="tokens")


TECHNIQUES = (
    Technique(
        "decoding",
        "autoregressive",
        "One token a pass.",
        LOSSLESS,
        "Zhou et al. 2024, arXiv 2404.14294, section 2.1",
        "core.decoding.autoregressive:Autoregressive",
    ),
    Technique(
        "decoding",
        "prompt_lookup",
        "Drafts what followed the same n-gram earlier in the text; one pass verifies all of it.",
        LOSSLESS,
        "Leviathan et al. 2022, arXiv 2211.17192; Saxena 2023 (prompt lookup decoding)",
        "core.decoding.prompt_lookup:PromptLookup",
        PromptLookupOptions,
    ),
)
