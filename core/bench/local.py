"""This program's own engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from importlib.metadata import version

import torch

from core.bench.adapter import Adapter, Job
from core.config import RunConfig
from core.decoder.probe import Probe
from core.engine.local import LocalBackend
from core.models.find import silent
from core.models.memory import kv_bytes_per_token


class Local(Adapter):
    """A session of the local backend, fed in the chunks of a run's prefill."""

    @classmethod
    def about(cls) -> str:
        return f"inference-playground {version('inference-playground')}, torch {torch.__version__}"

    def __init__(self, job: Job) -> None:
        torch.set_num_threads(job.threads)
        config = dataclasses.replace(RunConfig().set(["engine.device=cpu", *job.settings]), model=job.model)
        backend = LocalBackend.load(config, silent)
        self._chunk = config.run.prefill_chunk
        self._session = backend.session(config, job.room, Probe())
        self._session.forward([0])
        self.weight_bytes, self.kv_bytes = backend.pass_bytes, kv_bytes_per_token(backend.info, config)
        self._session.trim(0)

    def feed(self, tokens: Sequence[int], every: bool = False) -> int:
        for first in range(0, len(tokens), self._chunk):
            logits = self._session.forward(tokens[first : first + self._chunk], every)
        return int(logits[-1].numpy().argmax())

    def trim(self, length: int) -> None:
        self._session.trim(length)
