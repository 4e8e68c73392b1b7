"""A needle in a haystack: a made-up fact hidden at some depth of a long text, and asked for at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from time import perf_counter

import numpy as np
import torch

from core.config import RunConfig
from core.engine.backend import Backend, Session
from core.engine.watch import Watch
from core.environment import environment
from core.errors import BadInput
from core.events import Event, QualityProgress
from core.heads.choice import told
from core.models.tokenizer import Tokenizer
from core.quality.request import NeedleRequest
from core.quality.results import NeedleMeasured
from core.quality.text import beginning, read_text, text_tokens

_PLACES = ("Kestrel", "Marigold", "Hawthorn", "Basalt", "Juniper", "Osprey", "Saffron", "Willow")
_SPARE = 8  # tokens that a greedy answer may have beside the number


@dataclass(frozen=True)
class Needle:
    """prompt, answer: token ids. number: what the answer says."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    number: str


def hide(filler: Sequence[int], tokenizer: Tokenizer, length: int, depth: int, draw: Random) -> Needle:
    """A prompt of exactly `length` tokens: filler with the fact at the sentence end nearest before `depth` per cent, then
    the question, cued so that the number comes next. Raises BadInput where the filler is too short."""
    place, number = draw.choice(_PLACES), str(draw.randrange(10_000, 100_000))
    start = beginning(tokenizer)
    fact = tokenizer.encode(f" The secret number of {place} is {number}. ", special=False)
    question = tokenizer.encode(
        f"\n\nQuestion: What is the secret number of {place}? Answer: The secret number of {place} is", special=False
    )
    room = length - len(start) - len(fact) - len(question)
    if room < 0:
        raise BadInput(
            f"quality.lengths: {length} tokens leave no room for the fact and the question; give {length - room} or more"
        )
    if room > len(filler):
        raise BadInput(f"the text has {len(filler)} tokens and a length of {length} needs {room}; give a longer text")
    place_at = _sentence_end(filler, tokenizer, room * depth // 100)
    prompt = (*start, *filler[:place_at], *fact, *filler[place_at:room], *question)
    space = "" if tokenizer.leading_space else " "
    return Needle(prompt, tuple(tokenizer.encode(f"{space}{number}", special=False)), number)


def _sentence_end(filler: Sequence[int], tokenizer: Tokenizer, wanted: int) -> int:
    """The last place up to `wanted` where a sentence or a line ends; 0 where none does."""
    ends = (at for at in range(wanted, 0, -1) if tokenizer.piece(filler[at - 1]).rstrip(" ").endswith((".", "\n")))
    return next(ends, 0)


def find_needles(request: NeedleRequest, backend: Backend, watch: Watch) -> Iterator[Event]:
    """QualityProgress after each needle, and at the end NeedleMeasured.

    Every needle has a number of its own, drawn from the configuration's sampling.seed. Raises BadInput where a length does
    not fit the model or the text, Stopped.
    """
    began, info = perf_counter(), backend.info
    lengths, depths = request.options.grid
    if lengths[-1] >= info.context:
        raise BadInput(
            f"quality.lengths: {lengths[-1]} tokens and an answer do not fit the context of {info.name}, {info.context}"
        )
    text, name = read_text(request.text)
    filler = text_tokens(text, backend.tokenizer, info, lengths[-1])
    sums = np.zeros((2, len(depths), len(lengths)))  # needles found, log-probabilities
    done, asked = 0, 0
    total = sum(lengths) * len(depths) * request.options.trials
    for row, depth, column, length, trial in _cells(lengths, depths, request.options.trials):
        needle = hide(
            filler, backend.tokenizer, length, depth, Random(f"{request.config.sampling.seed} {length} {depth} {trial}")
        )
        sums[:, row, column] += ask(backend, request.config, needle, watch)
        done, asked = done + length, asked + 1
        yield QualityProgress("needle", done, total, float(sums[0].sum()) / asked)
    recall, log_probability = sums / request.options.trials
    yield NeedleMeasured(
        request.config, info, name, lengths, depths, request.options.trials, recall, log_probability,
        perf_counter() - began, environment() | told(request.config, info),
    )  # fmt: skip


def _cells(lengths: Sequence[int], depths: Sequence[int], trials: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Row and depth, column and length, trial; short prompts first, so that something is known early."""
    for column, length in enumerate(lengths):
        for row, depth in enumerate(depths):
            for trial in range(trials):
                yield row, depth, column, length, trial


def ask(backend: Backend, config: RunConfig, needle: Needle, watch: Watch) -> tuple[float, float]:
    """1 where the greedy answer holds the number, else 0; and the mean log-probability of the right answer, in nats."""
    room = len(needle.prompt) + len(needle.answer) + _SPARE
    session = backend.session(config, room, watch)
    after = _read(session, needle.prompt, config.run.prefill_chunk, watch)
    answer = _greedy(session, after, len(needle.answer) + _SPARE, backend.tokenizer, watch)
    if session.rewindable:
        session.trim(len(needle.prompt))
    else:
        session = backend.session(config, room, watch)
        after = _read(session, needle.prompt, config.run.prefill_chunk, watch)
    return float(needle.number in backend.tokenizer.decode(answer)), _log_probability(session, after, needle.answer)


def _read(session: Session, prompt: Sequence[int], chunk: int, watch: Watch) -> torch.Tensor:
    """Logits [1, V] after the prompt, which is read as a run reads it."""
    for first in range(0, len(prompt), chunk):
        watch.look()
        logits = session.forward(prompt[first : first + chunk])
    session.end_prompt()
    return logits


def _greedy(session: Session, logits: torch.Tensor, most: int, tokenizer: Tokenizer, watch: Watch) -> list[int]:
    """Up to `most` likeliest tokens, one after another, until the text ends."""
    answer = [int(logits[-1].argmax())]
    while len(answer) < most and answer[-1] not in tokenizer.eos_ids:
        watch.look()
        answer.append(int(session.forward(answer[-1:])[-1].argmax()))
    return answer


def _log_probability(session: Session, after: torch.Tensor, answer: Sequence[int]) -> float:
    """Mean over `answer`, each token given the prompt and those before it. after: logits [1, V] after the prompt."""
    rows = [after, *(session.forward([token]) for token in answer[:-1])]
    chosen = [row[-1].log_softmax(-1)[token] for row, token in zip(rows, answer, strict=True)]
    return float(torch.stack(chosen).mean())
