"""transformers in bfloat16: its own forward over its own cache, without the overhead of `generate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from core.bench.adapter import Adapter, Job
from core.engine.transformers import state_name


class Transformers(Adapter):
    """A growing cache, fed by the model's forward, which is asked for the logits that are needed alone."""

    @classmethod
    def about(cls) -> str:
        return f"transformers {transformers.__version__}, torch {torch.__version__}"

    def __init__(self, job: Job) -> None:
        torch.set_num_threads(job.threads)
        path = Path(job.model)
        place: tuple[Path, dict[str, Any]] = (path, {}) if path.is_dir() else (path.parent, {"gguf_file": path.name})
        load = transformers.AutoModelForCausalLM.from_pretrained
        self._model = load(place[0], **place[1], dtype=torch.bfloat16, local_files_only=True).eval()
        self._cache = transformers.DynamicCache(config=self._model.config)
        self._argument = state_name(self._model)
        self.weight_bytes = sum(each.nbytes for each in self._model.parameters())
        self.feed([0])
        layer = self._cache.layers[0]
        self.kv_bytes = len(self._cache.layers) * (layer.keys.nbytes + layer.values.nbytes)
        self.trim(0)

    def feed(self, tokens: Sequence[int], every: bool = False) -> int:
        with torch.inference_mode():
            rows = torch.tensor([list(tokens)])
            kept = {self._argument: self._cache, "use_cache": True, "logits_to_keep": 0 if every else 1}
            out = self._model(rows, **kept)
            return int(out.logits[0, -1].float().numpy().argmax())

    def trim(self, length: int) -> None:
        if surplus := self._cache.get_seq_length() - length:
            self._cache.crop(-surplus)
