"""Engines: what runs the model."""

from core.technique import LOSSLESS, Technique

TECHNIQUES = (
    Technique(
        "engine",
        "local",
        "This program's own decoder; every technique applies.",
        LOSSLESS,
        "core/decoder",
        "core.engine.local:LocalBackend",
    ),
    Technique(
        "engine",
        "transformers",
        "Hugging Face transformers' own model code: for architectures the local decoder does not know, and as a reference.",
        LOSSLESS,
        "Wolf et al. 2020, arXiv 1910.03771",
        "core.engine.transformers:TransformersBackend",
    ),
)
