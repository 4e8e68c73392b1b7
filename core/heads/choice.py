"""Which trained heads a configuration takes. Free of torch."""

from __future__ import annotations

from pathlib import Path

from core.config import RunConfig
from core.heads.table import KvSharingOptions
from core.layers import parse_layers
from core.models.adapters import found_adapter
from core.models.info import ModelInfo


def heads_file(config: RunConfig, info: ModelInfo) -> Path | None:
    """The file of trained heads that a configuration takes with a model; None where there is none, or it takes none."""
    return trained_heads(config.heads.options, info) if config.heads.name == "kv_sharing" else None


def told(config: RunConfig, info: ModelInfo) -> dict[str, str]:
    """What the environment of a run says of trained heads: the name of their file, where it took any."""
    file = heads_file(config, info)
    return {} if file is None else {"trained_heads": file.name}


def trained_heads(options: KvSharingOptions, info: ModelInfo) -> Path | None:
    """The file of heads that were trained for a model, where it is shared and repaired as `options` say."""
    fewer, every = options.kv_heads < info.kv_heads, len(parse_layers(options.layers, info.layers)) == info.layers
    return found_adapter(technique_of(options.kv_heads), info) if options.repair and fewer and every else None


def technique_of(kv_heads: int) -> str:
    """How the name of a file of `kv_heads` trained heads begins."""
    return f"kv_sharing-{kv_heads}"
