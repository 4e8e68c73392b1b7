"""Which architectures the local decoder runs, and what is known of them by name alone.

Free of torch, so that a model can be described before it is loaded.
"""

from __future__ import annotations

from typing import Literal

# Hugging Face `model_type`s. gemma3_text is also what a gemma3 checkpoint with a vision part is read as.
LOCAL_ARCHITECTURES: frozenset[str] = frozenset(
    {
        "gemma2", "gemma3_text", "granite", "llama", "mistral", "mixtral", "olmo2", "olmoe",
        "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3",
    }
)  # fmt: skip

NormPlace = Literal["pre", "post", "sandwich"]
_NORM_PLACES: dict[str, NormPlace] = {"olmo2": "post", "gemma2": "sandwich", "gemma3_text": "sandwich"}


def norm_place(architecture: str) -> NormPlace:
    """Where its blocks have norms: before them, after them, or both."""
    return _NORM_PLACES.get(architecture, "pre")
