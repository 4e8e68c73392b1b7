"""Tiny random models with biases and norms of heads, as techniques that look at a model at work get them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from core.attention.mask import FULL, Reach
from core.attention.softmax import Softmax
from core.cache.base import Cache
from core.cache.dynamic import Dynamic
from core.decoder.build import build
from core.decoder.model import Decoder
from core.decoder.plan import Plan, plan_of
from core.decoder.preparation import Preparation
from core.decoder.probe import Probe
from core.decoder.sites import layout_of, sites_of, softmax_over
from core.models.find import open_checkpoint
from core.technique import NoOptions
from core.weights.cast import Cast
from core.weights.table import CastOptions

SIZES = {
    "vocab_size": 60, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 3, "max_position_embeddings": 64, "attention_bias": True, "pad_token_id": 0,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {"llama": {}, "qwen3": {"head_dim": 8}, "olmo2": {}}
TOKENS = torch.arange(3, 33)


def saved(family: str, folder: Path, change: Callable[[Any], None] = lambda _: None) -> Any:
    """A random model of `family`, changed by `change` and kept in `folder`; transformers' model of it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZES | FAMILIES[family]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        change(model)
    model.float().save_pretrained(folder)
    return model.eval()


def prepared(folder: Path) -> Preparation:
    """The model in `folder` with a tokenizer of a token a character."""
    tokenizer: Any = SimpleNamespace(encode=lambda text, special: [1] * special + [3 + ord(one) % 50 for one in text])
    return Preparation(open_checkpoint(str(folder)), tokenizer, lambda *_: None)


def opened(preparation: Preparation) -> Plan:
    return plan_of(preparation.checkpoint)


def built(plan: Plan) -> Decoder:
    return build(plan, Cast(CastOptions("float32"), plan), lambda *_: None)


def cache_for(decoder: Decoder, kind: type[Cache] = Dynamic, options: Any = None) -> Cache:
    sites = sites_of(decoder, len(TOKENS), torch.float32)
    return kind(options or NoOptions(), layout_of(decoder, [Softmax(site) for site in sites], len(TOKENS), torch.float32))


def logits(plan: Plan, chunks: list[int] | None = None, cache: Cache | None = None, reach: Reach = FULL) -> torch.Tensor:
    """Of TOKENS, fed in chunks, [T, V]."""
    decoder = built(plan)
    context = softmax_over(decoder, cache or cache_for(decoder), reach)
    with torch.inference_mode():
        found = [decoder.forward(part, context, Probe()) for part in TOKENS.split(chunks or [len(TOKENS)])]
        return decoder.logits(torch.cat(found), Probe())
