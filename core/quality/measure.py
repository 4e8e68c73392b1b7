"""Perplexity, divergence and agreement: a configuration and the unmodified model read the same tokens side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from core.config import RunConfig
from core.engine.backend import Backend, Session
from core.engine.watch import Watch
from core.environment import environment
from core.errors import BadInput, RunFailed
from core.events import Event, QualityProgress
from core.heads.choice import told
from core.quality.plan import Stretch, chunks, contexts, prompt_of, segment_bounds, stretches
from core.quality.reading import Reading, chunk_of
from core.quality.request import QualityRequest
from core.quality.results import QualityMeasured, Segment
from core.quality.scores import Scores, joined, scores
from core.quality.text import beginning, read_text, text_tokens
from core.quality.unmodified import same_quality


@dataclass(frozen=True)
class Lane:
    """One of the two models. limit: most tokens that a session of it may hold."""

    backend: Backend
    config: RunConfig
    limit: int

    def reading(self, watch: Watch, start: Sequence[int]) -> Reading:
        def opened(capacity: int) -> Session:
            return self.backend.session(self.config, capacity, watch)

        return Reading(opened, self.limit, start)


def measure_quality(
    request: QualityRequest, ours: Backend, base: Backend, base_config: RunConfig, watch: Watch
) -> Iterator[Event]:
    """QualityProgress after each chunk, and at the end QualityMeasured.

    Raises BadInput for a text or a window that does not fit, RunFailed where the output is not a number, Stopped.
    """
    began, start = perf_counter(), beginning(ours.tokenizer)
    tokens, name = _tokens(request, ours, start)
    context, base_context = contexts(request, ours.info, len(tokens) - (not start))
    prompt = prompt_of(request, context)
    windows = [window for window in stretches(tokens, start, context) if len(window.targets) > prompt]
    scored = sum(len(window.targets) - prompt for window in windows)
    read = _Measurement(Lane(ours, request.config, context), Lane(base, base_config, base_context), start, watch)
    found: list[Scores] = []
    for window in windows:
        for part in read.scored(window, prompt):
            found.append(part)
            yield _progress(found, scored)
    session = read.session
    yield QualityMeasured(
        request.config, base_config, ours.info, name, "stream" if request.options.stream else "windows", context, base_context,
        segments(joined(found), segment_bounds(scored, context - prompt, request.options.stream)),
        session.kv_bytes, session.kv_tokens, perf_counter() - began, environment() | told(request.config, ours.info), prompt,
    )  # fmt: skip


def _tokens(request: QualityRequest, backend: Backend, start: Sequence[int]) -> tuple[list[int], str]:
    """The tokens that are scored, after one that is not where the model expects nothing before a text; the text's name."""
    text, name = read_text(request.text)
    tokens = text_tokens(text, backend.tokenizer, backend.info, request.options.tokens + (not start))
    if len(tokens) + len(start) < 2:
        raise BadInput(f"{name}: the text has {len(tokens)} token; at least two are needed")
    return tokens, name


class _Measurement:
    """Both lanes over one stretch after another; where they are the same, one is read for both.

    session: the configuration's last one.
    """

    def __init__(self, ours: Lane, base: Lane, start: Sequence[int], watch: Watch) -> None:
        self._ours, self._base, self._start, self._watch = ours, base, start, watch
        most = ours.limit if ours.limit == base.limit else base.limit // 2  # half of a limit is what a fresh session reads
        self._chunk = chunk_of(ours.backend.info.vocabulary, most)
        self._alike = ours.limit == base.limit and same_quality(ours.config, base.config)
        self.session: Session

    def scored(self, window: Stretch, prompt: int) -> Iterator[Scores]:
        """Scores of one chunk after another from the end of the prompt on; only one chunk of logits of each lane is held."""
        ours = self._ours.reading(self._watch, self._start)
        base = None if self._alike else self._base.reading(self._watch, self._start)
        self.session = ours.session
        for rows in chunks(len(window.targets), prompt, self._chunk):
            self._watch.look()
            inputs, is_scored = window.inputs[rows], rows.start >= prompt
            logits = ours.feed(inputs, is_scored)
            its = logits if base is None else base.feed(inputs, is_scored)
            if is_scored:
                yield _finite(scores(logits, its, window.targets[rows]))
            elif rows.stop == prompt:
                ours.session.end_prompt()


def _finite(found: Scores) -> Scores:
    if not np.isfinite((found.nll, found.base_nll, found.kl)).all():
        raise RunFailed(
            "the model's output is not a number, which an overflow of 16-bit activations or a damaged checkpoint "
            "causes; try weights.name=cast weights.dtype=float32"
        )
    return found


def segments(found: Scores, bounds: Sequence[tuple[int, int]]) -> tuple[Segment, ...]:
    """Means of the scores between each first and last."""
    columns = (found.nll, found.base_nll, found.kl, found.same_top1)
    return tuple(
        Segment(first, last - first, *(float(column[first:last].mean()) for column in columns)) for first, last in bounds
    )


def _progress(found: Sequence[Scores], total: int) -> QualityProgress:
    done = sum(len(part.nll) for part in found)
    mean = sum(float(part.nll.sum()) for part in found) / done
    return QualityProgress("perplexity", done, total, float(np.exp(mean)))
