"""llama.cpp through the low-level functions of llama-cpp-python, which is optional and so imported late."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from core.bench.adapter import Adapter, Job
from core.errors import RunFailed

_NO_FLASH = "flash_attention=off"
_OFF = 0  # LLAMA_FLASH_ATTN_TYPE_DISABLED


@cache
def _library() -> Any:
    """The module, with its log silenced."""
    try:
        import llama_cpp
    except ImportError as error:
        raise RunFailed(f"llama_cpp cannot be imported ({error}); it is optional: pip install llama-cpp-python") from error
    _silence(llama_cpp)
    llama_cpp.llama_backend_init()
    return llama_cpp


_callbacks: list[Any] = []  # C calls them for as long as the process lives


def _silence(llama_cpp: Any) -> None:
    _callbacks.append(llama_cpp.llama_log_callback(lambda _level, _text, _data: None))
    llama_cpp.llama_log_set(_callbacks[-1], ctypes.c_void_p())


class LlamaCpp(Adapter):
    """Its defaults, but for threads, room, and flash attention where that is set."""

    @classmethod
    def import_all(cls) -> None:
        _library()

    @classmethod
    def about(cls) -> str:
        llama = _library()
        return f"llama-cpp-python {llama.__version__}, {llama.llama_print_system_info().decode().strip(' |')}"

    def __init__(self, job: Job) -> None:
        self._llama = llama = _library()
        if not job.model.lower().endswith(".gguf"):
            raise RunFailed("llama.cpp reads .gguf files alone")
        self._model = llama.llama_model_load_from_file(job.model.encode(), llama.llama_model_default_params())
        if not self._model:
            raise RunFailed("llama.cpp cannot load this model")
        self._context = llama.llama_init_from_model(self._model, self._settings(job))
        if not self._context:
            raise RunFailed(f"llama.cpp cannot make room for {job.room} tokens")
        self._memory = llama.llama_get_memory(self._context)
        self._vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model))
        self._batch = llama.llama_batch_init(job.room, 0, 1)
        self._held = 0
        self.weight_bytes, self.kv_bytes = llama.llama_model_size(self._model), self._kv_bytes()

    def _settings(self, job: Job) -> Any:
        settings = self._llama.llama_context_default_params()
        settings.n_ctx = settings.n_batch = job.room
        settings.n_threads = settings.n_threads_batch = job.threads
        if _NO_FLASH in job.settings:
            settings.flash_attn_type = _OFF
        return settings

    def _kv_bytes(self) -> int:
        """Keys and values in float16, its default."""
        llama = self._llama
        counts = (llama.llama_model_n_embd, llama.llama_model_n_head, llama.llama_model_n_head_kv, llama.llama_model_n_layer)
        width, heads, kv_heads, layers = (count(self._model) for count in counts)
        return int(2 * layers * kv_heads * (width // heads) * 2)

    def feed(self, tokens: Sequence[int], every: bool = False) -> int:
        batch, count = self._batch, len(tokens)
        batch.n_tokens = count
        for index, token in enumerate(tokens):
            batch.token[index], batch.pos[index] = token, self._held + index
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
            batch.logits[index] = every or index == count - 1
        if self._llama.llama_decode(self._context, batch):
            raise RunFailed(f"llama.cpp cannot take {count} tokens after {self._held}")
        self._held += count
        logits = self._llama.llama_get_logits_ith(self._context, count - 1)
        return int(np.ctypeslib.as_array(logits, (self._vocabulary,)).argmax())

    def trim(self, length: int) -> None:
        self._llama.llama_memory_seq_rm(self._memory, 0, length, -1)
        self._held = length

    def close(self) -> None:
        self._llama.llama_batch_free(self._batch)
        self._llama.llama_free(self._context)
        self._llama.llama_model_free(self._model)
