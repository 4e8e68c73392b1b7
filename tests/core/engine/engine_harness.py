"""A tiny random llama on disk, with a byte-level tokenizer trained on a few words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

from core.config import RunConfig
from core.engine.engine import Engine
from core.events import Event, RunRequest
from core.trace import Trace, record

VOCABULARY = 320
TEMPLATE = "{% for message in messages %}<s>{{ message['content'] }}{% endfor %}"


def save_tokenizer(folder: Path) -> None:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["the cat sat on the mat and the dog sat on the cat"] * 4, trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)


def save_llama(folder: Path) -> None:
    """A two-layer llama that falls into cycles, so that some drafts are right and some are not."""
    torch.manual_seed(4)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=1,
        bos_token_id=0,
        initializer_range=0.2,
        tie_word_embeddings=False,
    )
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(8)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.3)
    model.save_pretrained(folder)
    save_tokenizer(folder)


class Harness:
    """Runs requests on one model and engine choice."""

    def __init__(self, engine: Engine, model: Path, choice: str) -> None:
        self.engine = engine
        place = ["engine.device=cpu"] if choice == "local" else []  # core/cuda has tests of its own
        self.config = RunConfig(model=str(model)).set(
            [f"engine.name={choice}", *place, "run.ignore_eos=true", "run.max_new_tokens=24"]
        )

    def request(self, prompt: str = "the cat sat on the", *settings: str, **fields: object) -> RunRequest:
        return RunRequest(self.config.set(settings), prompt, **{"chat": False, **fields})  # type: ignore[arg-type]

    def events(self, request: RunRequest, stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        return self.engine.run(request, stop)

    def trace(self, prompt: str = "the cat sat on the", *settings: str, **fields: object) -> Trace:
        return record(self.events(self.request(prompt, *settings, **fields)))

    def ids(self, prompt: str = "the cat sat on the", *settings: str, **fields: object) -> list[int]:
        return [token.id for token in self.trace(prompt, *settings, **fields).tokens]
