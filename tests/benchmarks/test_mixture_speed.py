"""Steps and prompts of a trained mixture of experts against a dense model that multiplies as many numbers a token.

Both are of random weights, and what is compared is measured in turns in one run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter

import pytest
import torch

from core.cache.base import Layout
from core.cache.dynamic import Dynamic
from core.config import RunConfig
from core.decoder.build import build
from core.decoder.fused.prompt import Prompt
from core.decoder.fused.runner import Fused
from core.decoder.model import Decoder
from core.decoder.plan import Computed, ExpertsPlan, GatedPlan, LayerPlan, Plan
from core.decoder.probe import Probe
from core.decoder.sites import softmax_over
from core.decoder.traits import Experts, traits_of
from core.engine.local import LocalSession
from core.technique import NoOptions

EXPERTS, USED, NEURONS, WIDTH, LAYERS, VOCABULARY = 8, 2, 1536, 576, 12, 8192
SHORT, PROMPT, STEPS, PROMPTS = 128, 512, 60, 5
CONFIG = {
    "model_type": "llama", "num_hidden_layers": LAYERS, "num_attention_heads": 9, "num_key_value_heads": 3,
    "hidden_size": WIDTH, "intermediate_size": USED * NEURONS, "vocab_size": VOCABULARY, "max_position_embeddings": 2048,
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A decoder with its compiled passes."""

    decoder: Decoder
    fused: Fused | None
    prompt: Prompt | None

    def session(self) -> LocalSession:
        traits = self.decoder.traits
        layout = Layout((traits.kv_heads,) * LAYERS, traits.head_size, traits.context, torch.bfloat16)
        context = softmax_over(self.decoder, Dynamic(NoOptions(), layout))
        return LocalSession(self.decoder, context, Probe(), self.fused, self.prompt)


@pytest.fixture(scope="module")
def models() -> list[Model]:
    """With a dense block of as many neurons as a token takes, and with the mixture; weights of 4 bits."""
    return [model_with(GatedPlan(*gated(USED * NEURONS))), model_with(mixture())]


def test_that_a_step_takes_hardly_longer_than_one_of_a_dense_model(models: list[Model]) -> None:
    sessions = [model.session() for model in models]
    for session in sessions:
        session.forward(list(range(SHORT)))
    dense, mixed = medians([partial(session.forward, [0]) for session in sessions], STEPS)
    told = f"dense {1000 * dense:.2f} ms a step, mixture {1000 * mixed:.2f}, {mixed / dense:.2f} times that"
    print(f"\n{USED} of {EXPERTS} experts of {NEURONS}, after {SHORT} tokens: {told}")
    assert mixed / dense < 1.25


def test_that_a_prompt_takes_less_than_twice_as_long_as_one_of_a_dense_model(models: list[Model]) -> None:
    dense, mixed = medians([partial(read, model) for model in models], PROMPTS)
    told = f"dense {PROMPT / dense:.0f} tokens a second, mixture {PROMPT / mixed:.0f}"
    print(f"\n{USED} of {EXPERTS} experts of {NEURONS}, a prompt of {PROMPT} tokens: {told}")
    assert mixed / dense < 2


def read(model: Model) -> None:
    model.session().forward(list(range(PROMPT)))


def matrix(rows: int, columns: int) -> Computed:
    return Computed(torch.randn(rows, columns) * columns**-0.5)


def gated(neurons: int) -> tuple[Computed, Computed, Computed]:
    return matrix(neurons, WIDTH), matrix(neurons, WIDTH), matrix(WIDTH, neurons)


def mixture() -> ExpertsPlan:
    experts = [GatedPlan(*gated(NEURONS)) for _ in range(EXPERTS)]
    return ExpertsPlan(Experts(EXPERTS, USED, NEURONS, normalise=True), matrix(EXPERTS, WIDTH), experts)


def model_with(feeding: ExpertsPlan | GatedPlan) -> Model:
    """All layers are of the same numbers, each packed for itself."""
    traits = traits_of(CONFIG)
    q, k, v, o = (matrix(rows, WIDTH) for rows in (WIDTH, WIDTH // 3, WIDTH // 3, WIDTH))
    norms = {place: torch.ones(WIDTH) for place in ("before_attention", "before_ffn")}
    layers = [LayerPlan(q, k, v, o, traits.kv_heads, feeding, norms) for _ in range(LAYERS)]
    plan = Plan(traits, dict(CONFIG), layers, matrix(VOCABULARY, WIDTH), matrix(VOCABULARY, WIDTH), torch.ones(WIDTH))
    config = RunConfig().set(["weights.name=rtn", "weights.bits=4", "weights.group_size=32"])
    decoder = build(plan, config.weights.technique.load()(config.weights.options, plan), lambda *_: None)
    return Model(decoder, Fused.of(decoder), Prompt.of(decoder))


def medians(works: Sequence[Callable[[], object]], times: int) -> list[float]:
    """Seconds that each takes."""
    columns = zip(*([timed(work) for work in works] for _ in range(times)), strict=True)
    return [median(column) for column in columns]


def timed(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began
