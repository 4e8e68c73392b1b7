"""Complete traces made from events, for tests of views: tokens, alternatives, attention, routing, rounds, memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from core.config import RunConfig
from core.events import (
    INSPECT,
    AttentionCaptured,
    CacheChanged,
    Event,
    Loaded,
    LoadProgress,
    Memory,
    PrefillProgress,
    Round,
    RoutingCaptured,
    RunFinished,
    RunStarted,
    Step,
    TextDelta,
    Token,
)
from core.models.info import ModelInfo
from core.quality.plan import segment_bounds
from core.quality.results import NeedleMeasured, QualityMeasured, Segment
from core.trace import Trace, record

PROMPT = "Explain in one short paragraph why the sky is blue, and why sunsets are red."
_ANSWER = (
    "The sky is blue because air scatters short waves of light far more than long ones. Sunlight holds every colour, and the "
    "blue part is sent in all directions, so it reaches us from the whole sky. At sunset the light crosses much more air, the "
    "blue is scattered away, and the red that is left colours the clouds."
)
INFO = ModelInfo(
    name="SmolLM2-135M-Instruct.Q4_1", path="/models/SmolLM2-135M-Instruct.Q4_1.gguf", format="gguf", architecture="llama",
    engine="local", layers=6, width=576, query_heads=9, kv_heads=3, head_size=64, ffn_width=1536, vocabulary=49152,
    context=8192, parameters=134_515_008, tensor_bytes={"Q4_1": 66_400_000, "Q8_0": 30_100_000, "F32": 140_544},
    tied_head=True, chat_template="{{ messages }}",
)  # fmt: skip

ENVIRONMENT = {"cpu": "AMD EPYC 9R14", "threads": 2, "torch": "2.13.0+cpu", "platform": "Linux-6.8-x86_64"}


def make_trace(
    config: RunConfig | None = None,
    *,
    seed: int = 0,
    diverges_at: int | None = None,
    inspect: bool = True,
    finished: bool = True,
) -> Trace:
    """A run of `config` as a trace, and where it is finished, what was measured of its quality.

    diverges_at: the generated token from which the text differs from other traces'.
    """
    trace = record(make_events(config, seed=seed, diverges_at=diverges_at, inspect=inspect, finished=finished))
    if finished:
        trace.add(make_quality(config, seed=seed))
        trace.add(make_needles(config, seed=seed))
    return trace


def make_quality(config: RunConfig | None = None, *, seed: int = 0, tokens: int = 3200, stream: bool = True) -> QualityMeasured:
    """A configuration a little worse than the unmodified model, and worse along the text."""
    draw, config = np.random.default_rng(0), config or RunConfig()
    bounds = segment_bounds(tokens, tokens if stream else 100, stream)
    parts = []
    for number, (first, last) in enumerate(bounds):
        base = 2.5 + float(draw.normal(0, 0.2))
        loss = 0.05 * seed * (1 + number / len(bounds))
        parts.append(Segment(first, last - first, base + loss, base, loss + 0.01, 0.9 - loss))
    return QualityMeasured(
        config, RunConfig(), INFO, "text.txt", "stream" if stream else "windows", tokens if stream else 100, 1600, tuple(parts),
        1_000_000, 512, 12.5, ENVIRONMENT,
    )  # fmt: skip


def make_needles(config: RunConfig | None = None, *, seed: int = 0) -> NeedleMeasured:
    """A sweep in which the deepest text is hardest."""
    lengths, depths = (512, 1024, 2048), (0, 50, 100)
    worse = np.linspace(0, 1, 3)[None, :] * np.ones((3, 1)) * (1 + seed)
    return NeedleMeasured(
        config or RunConfig(), INFO, "text.txt", lengths, depths, 2, np.clip(1 - worse / 2, 0, 1), -0.1 - worse, 3.5,
        ENVIRONMENT,
    )  # fmt: skip


def make_events(
    config: RunConfig | None = None,
    *,
    seed: int = 0,
    diverges_at: int | None = None,
    inspect: bool = True,
    finished: bool = True,
) -> Iterator[Event]:
    """The events of `make_trace`, in the order in which an engine would give them."""
    return _Run(config or RunConfig(), seed, diverges_at, inspect).events(finished)


class _Run:
    def __init__(self, config: RunConfig, seed: int, diverges_at: int | None, inspect: bool) -> None:
        self.config = config
        self.draw = np.random.default_rng(seed)
        self.inspect = inspect
        self.prompt = [self._token(i, text, "prompt") for i, text in enumerate(_pieces(PROMPT))]
        words = _pieces(_ANSWER)
        if diverges_at is not None:
            words = words[:diverges_at] + words[diverges_at + 3 :]
        self.words = words
        self.position = len(self.prompt)
        self.tokens: list[Token] = []

    def events(self, finished: bool) -> Iterator[Event]:
        yield LoadProgress("reading", 96_640_544, 96_640_544)
        yield Loaded(INFO, 0.84, 96_640_544)
        inspect = INSPECT if self.inspect else replace(INSPECT, top=0, attention_layers="", routing=False)
        yield RunStarted(self.config, INFO, PROMPT, True, tuple(self.prompt), inspect, ENVIRONMENT)
        yield PrefillProgress(len(self.prompt), len(self.prompt), 41.0)
        yield from self._captures(-1, len(self.prompt), 0)
        yield from self._step(-1, [self.words[0]], ["sampled"])
        speculates = self.config.decoding.name != "autoregressive"
        step, rounds = 0, 0
        while len(self.tokens) < len(self.words):
            if speculates and step % 3 != 2:
                yield from self._round(step, rounds)
                rounds += 1
            else:
                yield from self._captures(step, 1, self.position)
                yield from self._step(step, [self.words[len(self.tokens)]], ["sampled"])
            step += 1
        if finished:
            yield self._ended(rounds)

    def _round(self, step: int, index: int) -> Iterator[Event]:
        left = self.words[len(self.tokens) :]
        accepted = min(int(self.draw.integers(0, 5)), max(0, len(left) - 1))
        wrong = [" of", " light", " the", " air"][: 4 - accepted]
        drafted = tuple(self._token(self.position + i, text, "drafted") for i, text in enumerate(left[:accepted] + wrong))
        final = "bonus" if accepted == 4 else "corrected"
        yield from self._captures(step, 5, self.position)
        yield from self._step(step, left[: accepted + 1], ["drafted"] * accepted + [final], index)
        yield Round(index, step, drafted, accepted, self.tokens[-1])

    def _step(self, index: int, texts: list[str], sources: list[str], round_index: int | None = None) -> Iterator[Event]:
        kind = "prefill" if index < 0 else "verify" if round_index is not None else "decode"
        scale = {"prefill": 4.0, "verify": 1.25, "decode": 1.0}[kind] * float(self.draw.normal(1.0, 0.06))
        parts = {"embed": 0.05, "norm": 0.35, "attention": 2.4, "ffn": 3.5, "head": 1.1, "cache": 0.2}
        phases = {f"{kind}.{name}": ms * scale for name, ms in parts.items()}
        phases |= {kind: sum(phases.values()), "sampling": 0.31, "capture": 0.9 if self.inspect else 0.0}
        if kind == "verify":
            phases["draft"] = 0.12
        ms = sum(value for name, value in phases.items() if "." not in name)
        made = []
        for text, source in zip(texts, sources, strict=True):
            gap = ms if not made else 0.0
            made.append(replace(self._token(self.position, text, source), ms=gap, round=round_index))
            self.position += 1
        self.tokens += made
        held = self.position - 1
        yield Step(index, tuple(made), ms, phases, held, held * INFO.kv_bytes_per_token(4))
        if self.inspect:
            yield self._held(index, held)
        yield TextDelta("".join(texts))

    def _held(self, step: int, seen: int) -> CacheChanged:
        """A ring of the last twelve tokens in a third of the heads, and every token in the others."""
        rows = np.tile(np.arange(seen, dtype=np.int32), (INFO.layers * INFO.kv_heads, 1))
        rows[:: INFO.kv_heads, : max(0, seen - 12)] = -1
        layers = np.repeat(np.arange(INFO.layers, dtype=np.int32), INFO.kv_heads)
        bits, blocks = np.full(seen, 16, np.float32), np.empty(0, np.int32)
        return CacheChanged(step, seen, rows, layers, bits, blocks, 0, 0, "a newer token took its slot")

    def _token(self, index: int, text: str, source: str) -> Token:
        made = Token(index, 100 + abs(hash_of(text)) % 48_000, text, source)  # type: ignore[arg-type]
        if not self.inspect:
            return made
        top = np.sort(self.draw.dirichlet(np.full(256, 0.05)))[::-1].astype(np.float32)
        ids = self.draw.permutation(49_152)[:256].astype(np.int32)
        ids[0] = made.id
        texts = (text, " the", " a", " light", " blue", " of", " and", " in", " red", " air")
        entropy = float(-(top * np.log(top + 1e-9)).sum())
        return replace(made, probability=float(top[0]), entropy=entropy, top_ids=ids, top_probabilities=top, top_texts=texts)

    def _captures(self, step: int, rows: int, first: int) -> Iterator[Event]:
        if not self.inspect:
            return
        for layer in range(INFO.layers):
            weights, keys = self._attention(layer, rows, first), np.arange(first + rows, dtype=np.int32)
            yield AttentionCaptured(step, layer, first, weights, keys, np.full(weights.shape[:2], 0.9, np.float16))
            if self.config.ffn.name == "moefy":
                yield self._routing(step, layer, rows, first)

    def _attention(self, layer: int, rows: int, first: int) -> np.ndarray:
        """Heads that look at the first token, at the one before, nearby, and everywhere: [H, T, S]."""
        queries, keys = np.arange(first, first + rows)[:, None], np.arange(first + rows)[None, :]
        distance = queries - keys
        scores = np.stack([-distance / (1.0 + 2.5 * ((head + layer) % 5) ** 2) for head in range(INFO.query_heads)])
        scores[:, :, 0] += np.linspace(0, 4, INFO.query_heads)[:, None]
        scores += self.draw.normal(0, 0.6, scores.shape)
        allowed = distance >= 0
        options = self.config.attention.options
        if hasattr(options, "window"):
            allowed = allowed & ((distance < options.window) | (keys < getattr(options, "sinks", 0)))
        weights = np.where(allowed, np.exp(scores), 0.0)
        return (weights / weights.sum(-1, keepdims=True)).astype(np.float16)

    def _routing(self, step: int, layer: int, rows: int, first: int) -> RoutingCaptured:
        options = self.config.ffn.options
        popularity = self.draw.normal(0, 1, (rows, options.experts)) + np.linspace(1.5, -1.5, options.experts)
        order = np.argsort(-popularity, axis=1)[:, : options.top_k].astype(np.int16)
        shares = self.draw.dirichlet(np.ones(options.top_k), rows).astype(np.float16)
        return RoutingCaptured(step, layer, first, order, shares, options.experts)

    def _ended(self, rounds: int) -> RunFinished:
        held = self.position - 1
        kv = held * INFO.kv_bytes_per_token(4)
        gaps = [token.ms for token in self.tokens]
        tpot = sum(gaps[1:]) / max(1, len(gaps) - 1)
        accepted = sum(token.source in ("drafted", "bonus") for token in self.tokens)
        metrics: dict[str, float | None] = {
            "ttft_ms": gaps[0], "tpot_ms": tpot, "e2e_ms": sum(gaps), "itl_p50_ms": float(np.median(gaps[1:])),
            "itl_p99_ms": float(np.quantile(gaps[1:], 0.99)), "prefill_tokens_per_s": len(self.prompt) / gaps[0] * 1000,
            "decode_tokens_per_s": 1000 / tpot, "acceptance_rate": accepted / (4 * rounds) if rounds else None,
            "mean_acceptance_length": 1 + accepted / rounds if rounds else None, "rounds": float(rounds),
            "weight_bytes": 96_640_544.0, "kv_bytes": float(kv), "kv_tokens": float(held),
            "peak_memory_bytes": 512e6, "mbu": 0.47,
            "prompt_tokens": float(len(self.prompt)), "cached_tokens": 0.0,
            "new_tokens": float(len(self.tokens)), "load_ms": 840.0,
        }  # fmt: skip
        memory = Memory(96_640_544, kv, 2_400_000, 0, 512_000_000, 8_000_000_000)
        return RunFinished("eos", "".join(token.text for token in self.tokens), metrics, memory)


def hash_of(text: str) -> int:
    """The same number for the same text in every process."""
    return int.from_bytes(text.encode()[:6], "little") * 2_654_435_761 % 2**31


def _pieces(text: str) -> list[str]:
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]
