"""From a model and a text to feature maps: the model reads the text once, then each layer learns by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.attention.linear_learned import first_features
from core.calibration import calibration_tokens
from core.decoder.preparation import Preparation
from core.decoder.sites import sites_of
from core.distill.losses import divergence
from core.distill.schedule import Schedule
from core.distill.student import Local, Student
from core.distill.teacher import Lesson, lessons_of
from core.distill.work import Distilled, Progress, Tell, built, log_of, opened, step_of
from core.errors import BadInput

_LENGTH = 1024  # tokens of a sequence, at most
_ROWS = 64  # queries of a step
_LOSS = "KL divergence of a query's weights from those of the trained attention, in nats, on a sequence not trained on"


@dataclass(frozen=True)
class Settings:
    """window, sinks: what is seen exactly while the maps are trained. rate: the highest learning rate of Adam."""

    steps: int = 500
    features: int = 128
    window: int = 64
    sinks: int = 4
    sequences: int = 8
    rate: float = 0.05


def distill(model: str, settings: Settings, tell: Tell) -> Distilled:
    """Feature maps for every layer of `model` that the model trained to see all earlier tokens.

    Raises BadInput when there is no such layer, or the model's context is too short to learn from.
    """
    preparation = opened(model, tell)
    name, sequences = preparation.checkpoint.info.name, _sequences(preparation, settings)
    decoder = built(preparation)[1]
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
            tell(step_of(index * settings.steps + step, len(whole) * settings.steps, began, f"training layer {site.layer}"))
        layers.append({"layer": site.layer, "before": before, "after": student.divergence(unseen)})
        tensors |= {key: tensor.detach().bfloat16() for key, tensor in student.features.named(site.layer).items()}
    return Distilled(tensors, log_of(preparation, settings, began, loss=_LOSS, layers=layers))


def _sequences(preparation: Preparation, settings: Settings) -> list[Tensor]:
    """Token ids [sequences, T] of the calibration text."""
    info = preparation.checkpoint.info
    length = min(_LENGTH, info.context or _LENGTH)
    tokens = torch.tensor(calibration_tokens(preparation.tokenizer, settings.sequences * length))
    sequences = list(tokens[: len(tokens) // length * length].view(-1, length))
    if len(sequences) < 2 or length <= settings.window + settings.sinks:
        raise BadInput(
            f"{info.name}: {len(sequences)} sequences of {length} tokens teach nothing about keys before a window "
            f"of {settings.window}; at least two longer ones are needed"
        )
    return sequences


def _trained(student: Student, lessons: Sequence[Lesson], settings: Settings) -> Iterator[int]:
    """Train, and yield the number of each step before it is taken; a step sees some queries of one sequence."""
    schedule = Schedule(student.parameters, settings.rate, settings.steps)
    generator = torch.Generator().manual_seed(student.site.layer)
    for step in range(settings.steps):
        yield step
        lesson = lessons[step % len(lessons)]
        positions = torch.randint(student.local.window + student.local.sinks, len(lesson.q), (_ROWS,), generator=generator)
        with schedule.step():
            divergence(*student.logits(lesson, positions)).backward()  # type: ignore[no-untyped-call]
