"""Engines: what runs the model."""

from dataclasses import dataclass

from core.technique import LOSSLESS, Technique, option


@dataclass(frozen=True)
class LocalOptions:
    device: str = option(
        "auto", "where the model runs; auto takes a GPU that has all chosen techniques", choices=("auto", "cpu", "cuda")
    )


TECHNIQUES = (
    Technique(
        "engine",
        "local",
        "This program's own decoder; every technique applies.",
        LOSSLESS,
        "core/decoder",
        "core.engine.local:LocalBackend",
        LocalOptions,
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
