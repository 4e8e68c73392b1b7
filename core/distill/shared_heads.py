"""From a model and texts to fewer KV heads: a model that shares them learns to say what the trained one says."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.decoder.traits import Traits
from core.distill.heads_student import Student, first_heads
from core.distill.losses import divergence, strayed
from core.distill.reading import read
from core.distill.schedule import Schedule
from core.distill.texts import batches_of
from core.distill.work import Distilled, Tell, built, log_of, opened, step_of
from core.errors import BadInput
from core.heads.kv_sharing import check, check_repair

_UNSEEN = 4  # batches that are only checked by
_DECAY = 0.95  # of the mean of squares in Adam: training is short
_SAID = 2  # one of so many tokens is compared by what is said after it: the head is as large as several layers
_STRAYING = 3.0  # how much it counts beside what is said
_SPELL = 20  # steps of a mean in the log
_LOSS = "KL divergence of what is said after a token from what the trained model says, in nats"


@dataclass(frozen=True)
class Settings:
    """kv_heads: of each layer. rank: of what W_q and W_o are changed by. rate: the highest learning rate of Adam."""

    steps: int = 400
    kv_heads: int = 1
    rank: int = 12
    rate: float = 0.002


def distill(model: str, settings: Settings, tell: Tell) -> Distilled:
    """Shared heads for every layer of `model`; BadInput when it cannot have so few, or norms what W_o gives."""
    preparation = opened(model, tell)
    plan, teacher = built(preparation)
    _check(settings.kv_heads, plan.traits)
    batches = batches_of(preparation, settings.steps + _UNSEEN)
    student = Student(teacher, plan, first_heads(preparation, plan, settings.kv_heads, settings.rank))
    unseen, taught = batches[:_UNSEEN], batches[_UNSEEN:]
    began, before, seen = time.monotonic(), student.divergence(unseen), list[float]()
    for done, found in enumerate(_trained(student, taught, settings)):
        seen.append(found)
        tell(step_of(done + 1, settings.steps, began, "training shared heads"))
    spells = [sum(part) / len(part) for part in (seen[at : at + _SPELL] for at in range(0, len(seen), _SPELL))]
    figures = {"before": before, "after": student.divergence(unseen), f"trained_on_by_{_SPELL}_steps": spells}
    return Distilled(student.named(), log_of(preparation, settings, began, loss=_LOSS, **figures))


def _check(kv_heads: int, traits: Traits) -> None:
    check(kv_heads, traits.query_heads, traits.kv_heads)
    check_repair(traits)
    if kv_heads >= traits.kv_heads:
        raise BadInput(f"--kv-heads: {kv_heads} are no fewer than the model's {traits.kv_heads}, so there is nothing to learn")


def _trained(student: Student, batches: Sequence[Sequence[Tensor]], settings: Settings) -> Iterator[float]:
    """Train, and yield after each step how far the student was."""
    schedule = Schedule(student.parameters, settings.rate, settings.steps, _DECAY)
    generator = torch.Generator().manual_seed(0)
    for batch in batches:
        with schedule.step():
            found = [_learn(student, tokens, len(batch), generator) for tokens in batch]
        yield sum(found) / len(found)


def _learn(student: Student, tokens: Tensor, parts: int, generator: torch.Generator) -> float:
    """Add the gradients of one sequence, one of `parts`, and say how far the student was in it."""
    with torch.no_grad():
        wanted = read(student.teacher, tokens)
    found = read(student.decoder, tokens)
    some = torch.randperm(len(tokens), generator=generator)[: -(-len(tokens) // _SAID)]
    said = divergence(student.said(wanted.hidden[some]), student.said(found.hidden[some]))
    ((said + _STRAYING * strayed(wanted.streams, found.streams)) / parts).backward()  # type: ignore[no-untyped-call]
    return float(said.detach())
