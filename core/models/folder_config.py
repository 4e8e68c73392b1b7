"""The config.json of a model folder, and what it says of the model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from core.decoder.architectures import LOCAL_ARCHITECTURES
from core.errors import BadInput
from core.models.folder_tokenizer import chat_template_in, read_json
from core.models.info import ModelInfo
from core.models.sliding import sliding_windows

# What older and other architectures call the same sizes.
_ALIASES = {
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "hidden_size": ("n_embd", "d_model"),
    "num_attention_heads": ("n_head", "n_heads"),
    "num_key_value_heads": (),
    "head_dim": (),
    "intermediate_size": ("n_inner", "ffn_dim", "d_ff"),
    "vocab_size": (),
    "max_position_embeddings": ("n_positions", "n_ctx", "max_seq_len"),
}
_NEEDED = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")
# The published gemma3 folders leave out of their text_config what equals transformers' defaults.
_GEMMA3_DEFAULTS = {
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262_208, "rms_norm_eps": 1e-6,
    "max_position_embeddings": 131_072, "query_pre_attn_scalar": 256, "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0, "sliding_window": 4096, "sliding_window_pattern": 6,
    "hidden_activation": "gelu_pytorch_tanh",
}  # fmt: skip


def config_in(folder: Path, names: Collection[str]) -> dict[str, Any]:
    """The language model's config, with `tie_word_embeddings` as the tensors called `names` have it.

    Raises BadInput when config.json is missing or senseless.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise BadInput(f"{folder}: there is no config.json, so the architecture of the weights is unknown")
    config = read_json(path)
    if isinstance(config.get("text_config"), Mapping):
        nested = dict(config["text_config"])
        defaults = _GEMMA3_DEFAULTS if config.get("model_type") == "gemma3" else {}
        config = {**config, **defaults, **nested, "model_type": nested.get("model_type", f"{config.get('model_type')}_text")}
        del config["text_config"]
    if not isinstance(config.get("model_type"), str):
        raise BadInput(f"{path}: there is no model_type, so the architecture is unknown")
    if config["model_type"] in LOCAL_ARCHITECTURES:
        _check(path, config)
    tied = "lm_head.weight" not in names or config.get("tie_word_embeddings") is True
    return config | {"tie_word_embeddings": tied}


def _check(path: Path, config: Mapping[str, Any]) -> None:
    for key in _NEEDED:
        if key not in config:
            raise BadInput(f"{path}: {key} is missing")
    for key in _ALIASES:
        value = config.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31):
            raise BadInput(f"{path}: {key} is {value!r}, not a positive whole number")


def describe_config(folder: Path, config: Mapping[str, Any]) -> ModelInfo:
    """What `config` says; the tensors' headers are still to be counted."""
    architecture = str(config["model_type"])
    local = architecture in LOCAL_ARCHITECTURES and not config.get("quantization_config")
    heads, width = _size(config, "num_attention_heads"), _size(config, "hidden_size")
    windowed = config.get("use_sliding_window", True)
    return ModelInfo(
        name=model_name(folder),
        path=str(folder.absolute()),
        format="safetensors",
        architecture=architecture,
        engine="local" if local else "transformers",
        layers=_size(config, "num_hidden_layers"),
        width=width,
        query_heads=heads,
        kv_heads=_size(config, "num_key_value_heads") or heads,
        head_size=_size(config, "head_dim") or (width // heads if heads else 0),
        ffn_width=_size(config, "intermediate_size"),
        vocabulary=_size(config, "vocab_size"),
        context=_size(config, "max_position_embeddings") or 2048,
        parameters=0,
        tied_head=bool(config.get("tie_word_embeddings")),
        experts=int(config.get("num_local_experts") or config.get("num_experts") or 0),
        experts_used=int(config.get("num_experts_per_tok") or 0),
        sliding_window=int(config.get("sliding_window") or 0) if windowed else 0,
        sliding_windows=sliding_windows(config) if local else (),
        chat_template=chat_template_in(folder),
    )


def _size(config: Mapping[str, Any], key: str) -> int:
    found = (config[name] for name in (key, *_ALIASES[key]) if isinstance(config.get(name), int))
    return int(next(found, 0))


def model_name(folder: Path) -> str:
    """The folder's name, or `owner/name` for a folder of the Hugging Face cache."""
    resolved = folder.absolute()
    repository = resolved.parent.parent.name
    if resolved.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/", 1)
    return resolved.name
