"""Packed weights on disk: what comes back, and what is made again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from core.config import RunConfig
from core.decoder.build import Weights
from core.decoder.linear import Joined, Linear
from core.decoder.plan import Computed, Plan, Source
from core.weights import store
from core.weights.packed import Packed
from core.weights.rounding import quantize
from core.weights.rtn import Rtn
from core.weights.store import Stored
from core.weights.table import RtnOptions


class Mixed(Rtn):
    """Layer 2 is two packed matrices side by side, layer 3 is not packed."""

    def linear(self, sources: Sequence[Source], bias: torch.Tensor | None, layer: int | None) -> Linear:
        if layer == 2:
            return Joined([Packed(quantize(source.dense().numpy(), bits, 32)) for source, bits in zip(sources, (3, 8))], bias)
        return super().linear(sources, bias, 0 if layer == 0 else None)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INFERENCE_PLAYGROUND_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "_WORTH", 0)
    file = tmp_path / "model.gguf"
    file.write_bytes(bytes(range(256)) * 1000)
    return file


def matrices(weights: Weights) -> list[Linear]:
    random = torch.Generator().manual_seed(5)
    sources = [Computed(torch.randn(48, 64, generator=random)) for _ in range(5)]
    bias = torch.randn(96, generator=random)
    calls = (([sources[0]], None, 0), (sources[1:3], bias, 2), (sources[3:4], None, 3), (sources[4:], None, 0))
    return [weights.linear(*call) for call in calls]


def built(plan: Plan, model: Path, config: RunConfig | None = None) -> tuple[list[Linear], bool]:
    """The matrices, and whether they came from disk."""
    stored = Stored.of(Mixed(RtnOptions(5, 32), plan), config or RunConfig(), model)
    assert stored is not None
    kept = stored.path.exists() and stored._kept is not None
    made = matrices(stored)
    stored.save()
    return made, kept


def same(one: list[Linear], other: list[Linear]) -> bool:
    x = torch.randn(3, 64)
    return all(type(a) is type(b) and torch.equal(a(x), b(x)) and a.nbytes == b.nbytes for a, b in zip(one, other, strict=True))


def test_that_a_second_load_takes_what_the_first_one_made(tiny_plan: Plan, model: Path) -> None:
    (first, kept), (second, again) = built(tiny_plan, model), built(tiny_plan, model)
    assert (kept, again) == (False, True)
    assert same(first, second)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_that_a_damaged_file_is_made_again(tiny_plan: Plan, model: Path, damage: str, tmp_path: Path) -> None:
    first, _ = built(tiny_plan, model)
    (file,) = (tmp_path / "cache" / "weights").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes({"cut": content[:-100], "flipped": content, "empty": b""}[damage])
    (second, kept), (third, again) = built(tiny_plan, model), built(tiny_plan, model)
    assert (kept, again) == (False, True)
    assert same(first, second)
    assert same(first, third)


def test_that_another_file_or_other_options_are_converted_anew(tiny_plan: Plan, model: Path) -> None:
    built(tiny_plan, model)
    assert not built(tiny_plan, model, RunConfig().set(["weights.name=rtn", "weights.bits=3"]))[1]
    model.write_bytes(bytes(reversed(range(256))) * 1000)
    assert not built(tiny_plan, model)[1]


def test_that_a_folder_that_cannot_be_written_stops_nothing(tiny_plan: Plan, model: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert not built(tiny_plan, model)[1]


def test_that_the_files_unused_for_longest_make_room(tiny_plan: Plan, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built(tiny_plan, model)
    monkeypatch.setattr(store, "_MOST", 20_000)
    other = RunConfig().set(["weights.name=rtn", "weights.bits=3"])
    built(tiny_plan, model, other)
    assert built(tiny_plan, model, other)[1]
    assert not built(tiny_plan, model)[1]


@pytest.mark.parametrize("setting", ["heads.name=kv_sharing", "ffn.name=moefy"])
def test_that_computed_matrices_are_not_kept(tiny_plan: Plan, model: Path, setting: str) -> None:
    assert Stored.of(Mixed(RtnOptions(5, 32), tiny_plan), RunConfig().set([setting]), model) is None
