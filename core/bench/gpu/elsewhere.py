"""transformers on a model of the same shape, also with random weights."""

from __future__ import annotations

import statistics
from typing import Any

import torch

from core.cuda.speed import timings

_TIMES = 3


def transformers_step(config: dict[str, Any], context: int, tokens: int, device: torch.device) -> float:
    """Seconds of a greedy step of `generate` in float16 after `context` tokens: of `tokens` + 1 of them less those of one."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {key: value for key, value in config.items() if key != "model_type"}
    with device:
        model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **settings), dtype=torch.float16).eval()
    prompt = torch.arange(context, device=device)[None] * 7919 % config["vocab_size"]

    def seconds(count: int) -> float:
        def generate() -> None:
            model.generate(prompt, max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=0)

        return statistics.median(timings(generate, device, _TIMES))

    return (seconds(tokens + 1) - seconds(1)) / tokens
