"""Trained heads: what a student begins with, and that a plan becomes what the student was, with biases and norms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from models_with_heads import TOKENS, built, logits, opened, prepared, saved

from core.decoder.plan import Plan
from core.decoder.preparation import Preparation
from core.distill import adapter_file, heads_student, reading
from core.distill.heads_student import Student, first_heads
from core.distill.reading import read
from core.heads.choice import technique_of
from core.heads.kv_sharing import apply
from core.heads.table import KvSharingOptions
from core.models.adapters import adapter_name, trained_folder

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


@pytest.fixture(params=["llama", "qwen3"])
def preparation(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Preparation:
    for module in (heads_student, reading):
        monkeypatch.setattr(module, "quick_dtype", lambda: torch.float32)
    saved(request.param, tmp_path / "model")
    return prepared(tmp_path / "model")


def student_of(preparation: Preparation) -> Student:
    plan = opened(preparation)
    return Student(built(plan), plan, first_heads(preparation, plan, 1, 4))


def said(student: Student) -> torch.Tensor:
    with torch.no_grad():
        return student.said(read(student.decoder, TOKENS).hidden)


def shared(preparation: Preparation, repaired: bool) -> Plan:
    plan = opened(preparation)
    apply(KvSharingOptions(1, "least_squares", repaired), plan, preparation)
    return plan


def test_that_a_student_begins_as_least_squares_left_it(preparation: Preparation) -> None:
    assert (said(student_of(preparation)) - logits(shared(preparation, False))).abs().max() < 1e-4


def test_that_a_plan_becomes_what_the_student_was(preparation: Preparation) -> None:
    student, generator = student_of(preparation), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in student.parameters:
            parameter.copy_((parameter + 0.05 * torch.randn(parameter.shape, generator=generator)).bfloat16())
    file = trained_folder() / adapter_name(technique_of(1), preparation.checkpoint.info)
    file.parent.mkdir(parents=True)
    adapter_file.write(student.named(), {}, file)
    found = shared(preparation, True)
    assert {getattr(layer, letter).kind for layer in found.layers for letter in "qkvo"} == {"BF16"}
    assert (logits(found) - said(student)).abs().max() < 0.02 * said(student).abs().max()
