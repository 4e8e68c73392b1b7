"""The one decode loop: prefill, then draft, verify, accept, for every decoding technique."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from core.decoding.drafter import Drafter
from core.engine.backend import Backend, Stopped
from core.engine.cache_changes import CacheChanges
from core.engine.capture import Recorder
from core.engine.passes import Passes
from core.engine.sampling import Sampler
from core.engine.stages import Stages
from core.engine.text import TextStream
from core.engine.verdict import Verdict, alternatives, rejected_of, round_of, tokens_of
from core.engine.watch import Clock, Watch
from core.errors import BadInput, RunFailed
from core.events import Event, FinishReason, PrefillProgress, Round, RunRequest, Step, TextDelta, Token
from core.models.limits import most_tokens

_SLOWEST_BLIND = 0.5  # seconds between two looks at Stop, after which the next prefill chunk is halved
_SLOWEST_CHUNK = 2000  # ms between two words of progress, after which it is halved too
_SMALLEST_CHUNK = 16


class Generation:
    """One run on a loaded model. `steps`, `rounds`, `stream` and `reason` hold its result once `events` is exhausted."""

    def __init__(self, backend: Backend, request: RunRequest, prompt: Sequence[int], watch: Watch, clock: Clock) -> None:
        config, info = request.config, backend.info
        self.config, self.inspect, self.tokenizer = config, request.inspect, backend.tokenizer
        self.tokens, self.prompt = list(prompt), len(prompt)
        self.context = most_tokens(config, info)
        self.limit = min(self.context, self.prompt + config.run.max_new_tokens)
        self.watch, self.clock, self.stages = watch, clock, Stages(clock, watch)
        self.session = backend.session(config, self.limit, watch)
        self.drafter: Drafter = config.decoding.technique.load()(config.decoding.options)
        self.sampler = Sampler(config.sampling, prompt, info.vocabulary)
        self.stream = TextStream(self.tokenizer.bytes_of, config.run.stop)
        self.recorder = Recorder(request.inspect, watch, info, self.prompt)
        self.changes = CacheChanges()
        self.ends = frozenset[int]() if config.run.ignore_eos else self.tokenizer.eos_ids
        self.steps: list[Step] = []
        self.rounds: list[Round] = []
        self.reason: FinishReason | None = None
        self.adopted = 0  # prompt tokens that an earlier run had computed
        self.passes, self.kv_read = 0, 0  # decode passes, and bytes of keys and values that they read
        self._streamed = 0.0  # ms on the clock when the last tokens were given out
        if not self.session.rewindable and config.decoding.name != "autoregressive":
            raise BadInput(
                f"decoding.{config.decoding.name}: this model keeps a state that cannot take back a rejected draft; "
                "use decoding.name=autoregressive"
            )

    def events(self) -> Iterator[Event]:
        """Everything from the first prefill chunk to the last text; Stop ends it early."""
        try:
            yield from self._prefill()
            while self.reason is None:
                yield from self._step()
        except Stopped:
            self.reason = "stopped"
        rest = self.stream.finish()
        if rest:
            yield TextDelta(rest)

    def _prefill(self) -> Iterator[Event]:
        began, chunk = self.clock.ms(), self.config.run.prefill_chunk
        self.adopted = self.session.adopt(self.tokens)
        while (done := self.session.length) < self.prompt:
            fed = self.tokens[done : min(self.prompt, done + chunk)]
            self.watch.longest_blind, since = 0.0, self.clock.ms()
            logits = self._forward("prefill", fed)
            yield from self._captured(-1, done, len(fed), len(fed))
            yield PrefillProgress(done + len(fed), self.prompt, self.clock.ms() - began)
            self.watch.look()
            chunk = self._next_chunk(chunk, self.clock.ms() - since)
        with self.stages.charged("prefill"):
            self.session.end_prompt()
        changed = self._cache_changed(-1)
        yield from self._told(logits, self._verdict([], self._drawn(logits, [])), began)
        yield from changed

    def _next_chunk(self, chunk: int, took: float) -> int:
        """Smaller when the last one could not look at Stop, or tell of progress, for long; else back to what was asked for."""
        slowness = max(self.watch.longest_blind / _SLOWEST_BLIND, took / _SLOWEST_CHUNK)
        if slowness > 1:
            return max(_SMALLEST_CHUNK, chunk // 2)
        return min(self.config.run.prefill_chunk, chunk * 2) if slowness < 1 / 3 else chunk

    def _step(self) -> Iterator[Event]:
        """One pass over the weights: the last token and what is drafted after it."""
        self.watch.look()
        began, first = self.clock.ms(), self.session.length
        with self.stages.charged("draft"):
            drafted = self.drafter.propose(self.tokens, self.limit - len(self.tokens) - 1)
        stage = "verify" if drafted else "decode"
        if drafted and not self.session.alike(1 + len(drafted)):
            logits, verdict = self._one_by_one(drafted)
        else:
            logits = self._forward(stage, [self.tokens[-1], *drafted])
            verdict = self._verdict(drafted, self._drawn(logits, drafted))
        with self.stages.charged(stage):
            self._take_back(len(self.tokens) - 1)
        captured = self._captured(len(self.steps) - 1, first, len(logits), 1 + verdict.accepted)
        captured += self._cache_changed(len(self.steps) - 1)
        yield from self._told(logits, verdict, began)
        yield from captured

    def _one_by_one(self, drafted: Sequence[int]) -> tuple[torch.Tensor, Verdict]:
        """Verify drafts in passes of one row each, and no more of them than agree: logits of those rows, and the verdict."""
        first, text, logits, drawn = len(self.tokens), "", [], list[int]()
        passes = Passes(self.watch)
        for draft in (*drafted, None):
            logits.append(self._forward("verify", self.tokens[-1:]))
            passes.add()
            drawn += self._drawn(logits[-1], [])
            text += self._keep(drawn[-1])
            if drawn[-1] != draft or self.reason is not None:
                break
        passes.give_back()
        return torch.cat(logits), Verdict(tuple(drafted), tuple(drawn), len(drawn), first, text, len(self.rounds))

    def _forward(self, stage: str, rows: Sequence[int]) -> torch.Tensor:
        """Logits [n, V] of the rows: all of them when verifying, else the last."""
        self.recorder.expect(self.session.length, len(rows))
        with self.stages.passing(stage), torch.inference_mode():
            logits = self.session.forward(rows, all_logits=stage == "verify")
        if stage != "prefill":
            self.passes, self.kv_read = self.passes + 1, self.kv_read + self.session.kv_read
        return logits

    def _drawn(self, logits: torch.Tensor, drafted: Sequence[int]) -> list[int]:
        """The tokens that the logits give after each row, up to the first that no draft agrees with."""
        with self.stages.charged("sampling"):
            if not np.isfinite(_highest(logits.numpy())).all():
                raise RunFailed(
                    "the model's output is not a number, which an overflow of 16-bit activations or a damaged checkpoint "
                    "causes; try weights.name=cast weights.dtype=float32"
                )
            return self.sampler.verify(logits, drafted)

    def _verdict(self, drafted: Sequence[int], drawn: Sequence[int]) -> Verdict:
        """Append the drawn tokens, up to the one that ends the run."""
        first, text, kept = len(self.tokens), "", 0
        while kept < len(drawn) and self.reason is None:
            text += self._keep(drawn[kept])
            kept += 1
        return Verdict(tuple(drafted), tuple(drawn), kept, first, text, len(self.rounds))

    def _keep(self, token: int) -> str:
        """Append a token; returns the text that became final."""
        with self.stages.charged("sampling"):
            self.tokens.append(token)
            text = self.stream.feed(token)
            self.reason = self._end()
            return text

    def _end(self) -> FinishReason | None:
        """Why the run ends with the last token, if it does."""
        if self.tokens[-1] in self.ends:
            return "eos"
        if self.stream.stopped:
            return "stop_string"
        if len(self.tokens) - self.prompt >= self.config.run.max_new_tokens:
            return "length"
        return "context" if len(self.tokens) >= self.context else None

    def _take_back(self, length: int) -> None:
        if self.session.length > length:
            self.session.trim(length)

    def _captured(self, step: int, first: int, fed: int, kept: int) -> list[Event]:
        if not self.recorder.active:
            return []
        with self.stages.charged("capture"):
            return list(self.recorder.take(step, first, fed, kept))

    def _cache_changed(self, step: int) -> list[Event]:
        if not self.inspect.cache:
            return []
        with self.stages.charged("capture"):
            return self.changes.take(self.session.held(step))

    def _told(self, logits: torch.Tensor, verdict: Verdict, began: float) -> Iterator[Event]:
        """The events of a finished pass."""
        piece, top = self.tokenizer.piece, self.inspect.top
        with self.stages.charged("capture" if top else "sampling"):
            seen = alternatives(logits, verdict.drawn, top, piece) if top else ()
            tokens = tokens_of(verdict, seen, piece)
            rejected = rejected_of(verdict, logits, seen, piece)
        step = self._finished(tokens, began)
        yield step
        if verdict.drafted:
            self.rounds.append(round_of(verdict, step, rejected))
            yield self.rounds[-1]
        if verdict.text:
            yield TextDelta(verdict.text)

    def _finished(self, tokens: Sequence[Token], began: float) -> Step:
        """The tokens come as one chunk: the first takes the whole gap, the others none."""
        now = self.clock.ms()
        chunk = (replace(tokens[0], ms=now - self._streamed), *tokens[1:])
        self._streamed = now
        held = self.session.kv_tokens, self.session.kv_bytes
        self.steps.append(Step(len(self.steps) - 1, chunk, now - began, self.stages.take(), *held))
        return self.steps[-1]


def _highest(logits: np.ndarray) -> np.ndarray:
    """The largest of each row [n, V], or NaN: NumPy finds its place faster than its value."""
    return np.asarray(logits[np.arange(len(logits)), logits.argmax(-1)])
