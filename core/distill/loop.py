"""From a model and a text to feature maps: the model reads the text once, then each layer learns by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from core.attention.linear_learned import first_features
from core.calibration import calibration_tokens
from core.decoder.build import build
from core.decoder.linear import quick_dtype
from core.decoder.model import Decoder
from core.decoder.plan import plan_of
from core.decoder.sites import sites_of
from core.distill.losses import divergence
from core.distill.student import Local, Student
from core.distill.teacher import Lesson, lessons_of
from core.environment import environment
from core.errors import BadInput
from core.models.find import open_checkpoint
from core.models.tokenizer import Tokenizer
from core.weights.cast import Cast
from core.weights.table import CastOptions

_LENGTH = 1024  # tokens of a sequence, at most
_ROWS = 64  # queries of a step
_WARM_UP = 0.1  # of the steps


@dataclass(frozen=True)
class Settings:
    """window, sinks: what is seen exactly while the maps are trained. rate: the highest learning rate of Adam."""

    steps: int = 500
    features: int = 128
    window: int = 64
    sinks: int = 4
    sequences: int = 8
    rate: float = 0.05


@dataclass(frozen=True)
class Progress:
    """done of total, in sequences read or steps trained; seconds_left is None until it can be told."""

    what: str
    done: int
    total: int
    seconds_left: float | None = None


Tell = Callable[[Progress], None]  # may raise to end the work


@dataclass(frozen=True)
class Distilled:
    """tensors: by the names of an adapter file, bfloat16. log: how they came about, as plain JSON."""

    tensors: dict[str, Tensor]
    log: dict[str, Any]


def distill(model: str, settings: Settings, tell: Tell) -> Distilled:
    """Feature maps for every layer of `model` that the model trained to see all earlier tokens.

    Raises BadInput when there is no such layer, or the model's context is too short to learn from.
    """
    decoder, sequences, name = _prepared(model, settings, tell)
    sites = sites_of(decoder, len(sequences[0]), torch.bfloat16)
    lessons = lessons_of(decoder, sequences, lambda done, total: tell(Progress("reading the text", done, total)))
    whole = [site for site in sites if site.window is None]
    if not whole:
        raise BadInput(f"{name}: every layer has a trained sliding window, which linear attention leaves as it is")
    began, layers = time.monotonic(), []
    tensors: dict[str, Tensor] = {}
    for index, site in enumerate(whole):
        student = Student(site, first_features(site, settings.features), Local(settings.window, settings.sinks))
        *taught, unseen = lessons[site.layer]
        before = student.divergence(unseen)
        for step in _trained(student, taught, settings):
            tell(_progress(index * settings.steps + step, len(whole) * settings.steps, began, f"training layer {site.layer}"))
        layers.append({"layer": site.layer, "before": before, "after": student.divergence(unseen)})
        tensors |= {key: tensor.detach().bfloat16() for key, tensor in student.features.named(site.layer).items()}
    return Distilled(tensors, _log(name, settings, layers, time.monotonic() - began))


def _prepared(model: str, settings: Settings, tell: Tell) -> tuple[Decoder, list[Tensor], str]:
    """The decoder in the format this processor multiplies fastest, and token ids [sequences, T] of the calibration text."""
    checkpoint = open_checkpoint(model, lambda stage, done, total: tell(Progress(stage, done, total)))
    plan = plan_of(checkpoint)
    length = min(_LENGTH, checkpoint.info.context or _LENGTH)
    tokens = torch.tensor(calibration_tokens(Tokenizer.of(checkpoint), settings.sequences * length))
    sequences = list(tokens[: len(tokens) // length * length].view(-1, length))
    if len(sequences) < 2 or length <= settings.window + settings.sinks:
        raise BadInput(
            f"{checkpoint.info.name}: {len(sequences)} sequences of {length} tokens teach nothing about keys before a window "
            f"of {settings.window}; at least two longer ones are needed"
        )
    cast = Cast(CastOptions(str(quick_dtype()).removeprefix("torch.")), plan)
    decoder = build(plan, cast, lambda _, done, total: tell(Progress("loading", done, total)))
    return decoder, sequences, checkpoint.info.name


def _trained(student: Student, lessons: Sequence[Lesson], settings: Settings) -> Iterator[int]:
    """Train, and yield the number of each step before it is taken; a step sees some queries of one sequence."""
    optimizer = torch.optim.Adam(student.parameters, lr=settings.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, settings.steps, pct_start=_WARM_UP)
    generator = torch.Generator().manual_seed(student.site.layer)
    for step in range(settings.steps):
        yield step
        lesson = lessons[step % len(lessons)]
        positions = torch.randint(student.local.window + student.local.sinks, len(lesson.q), (_ROWS,), generator=generator)
        loss = divergence(*student.logits(lesson, positions))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def _progress(done: int, total: int, began: float, what: str) -> Progress:
    spent = time.monotonic() - began
    return Progress(what, done, total, spent * (total - done) / done if done else None)


def _log(name: str, settings: Settings, layers: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    return {
        "model": name,
        "settings": asdict(settings),
        "loss": "KL divergence of a query's weights from those of the trained attention, in nats, on a sequence not trained on",
        "layers": layers,
        "seconds": round(seconds, 1),
        "environment": environment(),
    }
