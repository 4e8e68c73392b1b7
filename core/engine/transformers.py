"""Any causal language model, run by transformers' own code: for unknown architectures, and as a reference.

Notation: T rows fed, S cached tokens, H heads, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.cache_utils import DynamicCache, DynamicLayer

from core.config import RunConfig
from core.decoder.probe import Probe
from core.engine.backend import Backend, Progress, Session
from core.engine.hooks import Hooks
from core.engine.loading_bars import bars_told_to
from core.errors import BadInput
from core.models.find import describe, resolve
from core.models.info import ModelInfo
from core.models.tokenizer import Tokenizer, open_tokenizer

# What releases and models call the argument, and the field of the output, that carries the state from pass to pass.
_STATE_NAMES = ("cache", "past_key_values", "cache_params", "state")

# Recurrent models whose code carries its whole state from one pass of many rows into the next. The others get their
# prompt in one pass, or row by row after it: Mamba's scan, for one, starts anew with each pass of many rows.
_CARRIES_STATE = ("mamba2", "rwkv")


class TransformersBackend(Backend):
    """A transformers model on the processor."""

    def __init__(self, info: ModelInfo, tokenizer: Tokenizer, model: Any) -> None:
        self.info, self.tokenizer, self.model = info, tokenizer, model
        self.hooks = Hooks(model)
        self.weight_bytes = sum(tensor.nbytes for _, tensor in _tensors(model))

    @property
    def pass_bytes(self) -> int:
        embedding = self.model.get_input_embeddings().weight
        head = self.model.get_output_embeddings()
        untied = 0 if head is not None and head.weight is embedding else embedding.nbytes
        idle = 1 - self.info.experts_used / self.info.experts if self.info.experts else 0
        experts = sum(tensor.nbytes for name, tensor in _tensors(self.model) if ".experts." in name)
        return self.weight_bytes - untied - int(experts * idle)

    @classmethod
    def load(cls, config: RunConfig, progress: Progress) -> TransformersBackend:
        path = resolve(config.model, progress)
        info = describe(config.model)
        progress("tokenizer", 0, 1)
        tokenizer = open_tokenizer(path)
        progress("reading", 0, 1)
        with bars_told_to(progress):
            model = _loaded(path, config)
        return cls(info, tokenizer, model.eval())

    def session(self, config: RunConfig, capacity: int, probe: Probe) -> TransformersSession:
        return TransformersSession(self, probe)


class TransformersSession(Session):
    """One sequence. Its state is a growing cache of keys and values, or whatever a recurrent model passes on."""

    def __init__(self, backend: TransformersBackend, probe: Probe) -> None:
        self.model, self.hooks, self.probe = backend.model, backend.hooks, probe
        self._fed = 0
        self._state_name = state_name(self.model)
        self._state: Any = _new_state(self.model)
        self.rewindable = self._state is not None
        self._whole_passes = self.rewindable or self.model.config.model_type in _CARRIES_STATE
        # Only the plain implementation hands out the weights; the fused one is what a measured run should use.
        wanted = "eager" if probe.attention_layers else "sdpa"
        if _has_attention(self.model) and self.model.config._attn_implementation != wanted:
            self.model.set_attn_implementation(wanted)

    def forward(self, tokens: Sequence[int], all_logits: bool = False) -> torch.Tensor:
        if self._fed == 0 or self._whole_passes or len(tokens) == 1:
            return self._pass(tokens, all_logits)
        rows = [self._pass([token], all_logits) for token in tokens]
        return torch.cat(rows) if all_logits else rows[-1]

    def _pass(self, tokens: Sequence[int], all_logits: bool) -> torch.Tensor:
        self.probe.start()
        watched = bool(self.probe.attention_layers)
        with torch.inference_mode(), self.hooks.charging(self.probe):
            output = self.model(
                torch.tensor([tokens]),
                use_cache=True,
                logits_to_keep=0 if all_logits else 1,
                **{self._state_name: self._state},
                **({"output_attentions": True} if watched else {}),
            )
        if self._state_name not in output:
            raise _stateless(self.model)
        self._state = output[self._state_name]
        self._fed += len(tokens)
        if watched:
            self._show(output.attentions)
        return output.logits[0].float()  # type: ignore[no-any-return]

    def _show(self, attentions: Sequence[torch.Tensor | None] | None) -> None:
        for layer, weights in enumerate(attentions or ()):
            if layer in self.probe.attention_layers and weights is not None:
                rows = weights[0, :, -self.probe.attention_rows :].half().numpy()  # [H, T, S]
                self.probe.attention(layer, rows, np.arange(rows.shape[-1], dtype=np.int32))
        self.probe.lap("capture")

    def trim(self, length: int) -> None:
        self._state.crop(length - self._fed)
        self._fed = length

    @property
    def length(self) -> int:
        return self._fed

    @property
    def kv_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in _held(self._state))

    @property
    def kv_tokens(self) -> int:
        return int(self._state.get_seq_length()) if self.rewindable else 0


def _loaded(path: Path, config: RunConfig) -> Any:
    transformers.utils.logging.set_verbosity_error()
    gguf = path.suffix.lower() == ".gguf"
    place = (path.parent, {"gguf_file": path.name}) if gguf else (path, {"use_safetensors": True})
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(
            place[0],
            **place[1],
            **_precision(config, gguf),
            trust_remote_code=False,
            local_files_only=True,
        )
    except (ValueError, KeyError, OSError, ImportError, NotImplementedError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(f"{path}: transformers cannot load this model: {reason}") from error


def _precision(config: RunConfig, gguf: bool) -> dict[str, Any]:
    """Arguments for the number format. GGUF blocks are unpacked to float32, which holds their values exactly."""
    match config.weights.name:
        case "cast":
            return {"dtype": getattr(torch, config.weights.options.dtype)}
        case "bnb_int8":
            quantization = transformers.BitsAndBytesConfig(load_in_8bit=True)
        case "bnb_nf4":
            quantization = transformers.BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
            )
        case _:
            return {"dtype": torch.float32 if gguf else "auto"}
    return {"quantization_config": quantization, "device_map": {"": "cpu"}, "dtype": torch.bfloat16}


def _tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Every resident tensor once, a tied head with its embedding."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def state_name(model: Any) -> str:
    """Which of the names this model uses. Raises BadInput where it keeps no state."""
    known = inspect.signature(model.forward).parameters
    name = next((name for name in _STATE_NAMES if name in known), None)
    if name is None:
        raise _stateless(model)
    return name


def _stateless(model: Any) -> BadInput:
    return BadInput(f"{model.config.model_type}: this architecture keeps no state between passes, so it cannot generate")


def _new_state(model: Any) -> DynamicCache | None:
    """An empty cache of keys and values; None where the model keeps something else, which its first pass makes."""
    if model._is_stateful or not _only_attention(DynamicCache(config=model.config)):
        return None
    # Layers with a sliding window are kept whole too: their mask hides what is out of reach, and they can be rewound.
    return DynamicCache()


def _only_attention(cache: DynamicCache) -> bool:
    return all(isinstance(layer, DynamicLayer) for layer in cache.layers)


def _has_attention(model: Any) -> bool:
    return bool(getattr(model, "_supports_sdpa", False))


def _held(state: Any) -> Iterator[torch.Tensor]:
    """The tensors of a state, whatever holds them."""
    match state:
        case torch.Tensor():
            yield state
        case list() | tuple():
            for part in state:
                yield from _held(part)
        case dict():
            yield from _held(list(state.values()))
        case DynamicCache():
            yield from _held([vars(layer) for layer in state.layers])
