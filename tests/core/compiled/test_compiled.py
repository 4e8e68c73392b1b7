"""Emitted machine code: its arithmetic against torch, and its place on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core.attention.kernel import LOWEST, join_kernel, mix_kernel, scores_kernel
from core.attention.softmax_kernel import STEP, softmax_kernel
from core.compiled import tiles
from core.compiled.arithmetic import exp, exp2_bfloat, flushed, logistic, tanh
from core.compiled.emitter import LANES, VF32, Emitter, number
from core.compiled.jit import callable_at
from core.compiled.numbers import read, write
from core.decoder.fused.gate import GATE_ARGUMENTS, gate_kernel
from core.kept import kept


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INFERENCE_PLAYGROUND_CACHE", str(tmp_path))
    return tmp_path / "compiled"


def mapped(name: str, change: Callable[[Emitter, object], object], x: torch.Tensor) -> torch.Tensor:
    """change applied to x by vectors."""
    e, y = Emitter(name, "x y count"), torch.empty_like(x)

    def body(i: object, _: list[object]) -> list[object]:
        e.store(change(e, e.load(e.at(e.x, i, 4), VF32, 4)), e.at(e.y, i, 4))
        return []

    e.loop(number(0), e.count, [], body, step=LANES)
    callable_at(e.finish(), 3)(x.data_ptr(), y.data_ptr(), len(x))
    return y


def mapped_flushed(name: str, change: Callable[[Emitter, object], object], x: torch.Tensor) -> torch.Tensor:
    """`mapped` where small numbers are 0; others are not afterwards."""

    def flush(e: Emitter, v: object) -> object:
        with flushed(e):
            return change(e, v)

    y = mapped(name, flush, x)
    assert torch.tensor([2.0**-130]).mul(0.5).item() == 2.0**-131
    return y


@pytest.mark.parametrize(("change", "expected"), [(exp, torch.exp), (logistic, torch.sigmoid), (tanh, torch.tanh)])
def test_that_functions_equal_those_of_torch(change: Callable[..., object], expected: Callable[..., torch.Tensor]) -> None:
    x = torch.linspace(-80, 80, 16 * 1000)
    assert torch.allclose(mapped(f"test_{change.__name__}", change, x), expected(x), rtol=1e-6, atol=2e-7)


@pytest.mark.skipif(not tiles.available(), reason="this processor has no AVX-512 for bfloat16")
def test_that_powers_of_two_are_rounded_to_bfloat16() -> None:
    """Also whole ones, and those too small for the format, which are 0."""
    x = torch.cat(
        (torch.linspace(-125, 120, 16 * 1000), torch.arange(-100.0, 60.0), torch.tensor([-127.0, -150, -1e30, -torch.inf] * 4))
    )
    powers = mapped_flushed("test_exp2", lambda e, v: e.b.bitcast(exp2_bfloat(e, v), VF32), x)
    assert torch.equal(powers, powers.bfloat16().float())
    assert torch.allclose(powers, torch.exp2(x), rtol=2**-8, atol=2**-126)
    assert (powers / torch.exp2(x))[:16000].mean().sub(1).abs() < 1e-4
    assert torch.equal(powers[16000:16160], torch.exp2(x[16000:16160]))
    assert not powers[16160:].any()


def test_that_code_is_compiled_once_and_again_when_its_file_is_damaged(folder: Path) -> None:
    x = torch.randn(32)
    ran = [mapped("doubled", lambda e, v: e.b.fadd(v, v), x)]
    (file,) = folder.iterdir()
    written = file.stat().st_mtime_ns
    ran.append(mapped("doubled", lambda e, v: e.b.fadd(v, v), x))
    assert file.stat().st_mtime_ns == written
    file.write_bytes(file.read_bytes()[:-5])
    ran.append(mapped("doubled", lambda e, v: e.b.fadd(v, v), x))
    assert all(torch.equal(y, 2 * x) for y in ran)
    assert kept(file) is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_that_stored_numbers_are_read_and_rounded_as_by_torch(dtype: torch.dtype) -> None:
    x, y = torch.randn(64).to(dtype), torch.empty(64, dtype=dtype)
    e = Emitter(f"tripled_{dtype.itemsize}", "x y count")

    def body(i: object, _: list[object]) -> list[object]:
        value = read(e, e.at(e.x, i, dtype.itemsize), dtype, LANES)
        write(e, e.b.fadd(value, e.b.fadd(value, value)), e.at(e.y, i, dtype.itemsize), dtype)
        return []

    e.loop(number(0), e.count, [], body, step=LANES)
    callable_at(e.finish(), 3)(x.data_ptr(), y.data_ptr(), 64)
    assert torch.equal(y, (x.float() * 3).to(dtype))


@pytest.mark.parametrize("cap", [0.0, 5.0])
@pytest.mark.parametrize(("sunk", "begin", "end", "stop"), [(0, 0, 37, 40), (3, 8, 50, 50), (4, 4, 5, 9)])
def test_that_softmax_sees_two_runs_and_leaves_nothing_elsewhere(
    sunk: int, begin: int, end: int, stop: int, cap: float
) -> None:
    scores, seen = torch.randn(64) * 4, torch.zeros(64, dtype=torch.bool)
    seen[:sunk] = seen[begin:end] = True
    expected = scores * 0.3
    expected = cap * torch.tanh(expected / cap) if cap else expected
    expected = expected.masked_fill(~seen, -torch.inf).softmax(-1)
    bits = [int(torch.tensor(value).view(torch.int32)) for value in (0.3, cap)]
    peak, total = stats = torch.zeros(2)
    expected_peak = torch.where(seen, cap * torch.tanh(scores * 0.3 / cap) if cap else scores * 0.3, -torch.inf).max()
    callable_at(softmax_kernel(bool(cap)), 8)(scores.data_ptr(), sunk, begin, end, stop, *bits, stats.data_ptr())
    whole = -(-stop // STEP) * STEP
    assert (scores / total - expected)[:whole].abs().max() < 1e-6
    assert not scores[:whole][~seen[:whole]].any()
    assert abs(peak - expected_peak) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("size", "queries"), [(64, 3), (128, 9), (80, 5), (8, 2), (4, 1), (12, 2), (256, 1)])
def test_that_scores_and_sums_equal_plain_products(size: int, queries: int, dtype: torch.dtype) -> None:
    slots, first, last, stride = 90, 5, 83, 100
    keys, values, q = torch.randn(slots, size).to(dtype), torch.randn(slots, size).to(dtype), torch.randn(queries, size)
    scores, weights, sums = torch.zeros(queries, stride), torch.rand(queries, stride), torch.zeros(queries, size)
    shape = queries, scores.data_ptr(), stride, first, last
    callable_at(scores_kernel(size, dtype), 7)(keys.data_ptr(), q.data_ptr(), *shape)
    assert torch.allclose(scores[:, first:last], q @ keys[first:last].float().T, atol=1e-4)
    shape = queries, stride, sums.data_ptr(), first, last
    callable_at(mix_kernel(size, dtype), 7)(values.data_ptr(), weights.data_ptr(), *shape)
    assert torch.allclose(sums, weights[:, first:last] @ values[first:last].float(), atol=1e-4)


@pytest.mark.parametrize("size", [64, 80, 256, 2])
def test_that_joined_chunks_are_one_softmax(size: int) -> None:
    scores, values = torch.randn(5, 7) * 30, torch.randn(5, 7, size)  # chunks of seven slots, of which one is not seen
    scores[2] = LOWEST
    peaks = scores.amax(1)
    weights = (scores - peaks[:, None]).exp() * (scores > LOWEST)
    sums, stats, out = (weights[:, None] @ values)[:, 0], torch.stack((peaks, weights.sum(1)), dim=1), torch.empty(size)
    callable_at(join_kernel(size), 6)(sums.data_ptr(), 4 * size, stats.data_ptr(), 8, 5, out.data_ptr())
    assert torch.allclose(out, scores.flatten().softmax(0) @ values.flatten(0, 1), atol=1e-5)


@pytest.mark.parametrize("gelu", [False, True])
def test_that_the_gate_equals_torch(gelu: bool) -> None:
    wide, inner = torch.randn(3, 2 * 37), torch.empty(3, 37)
    shape = wide.shape[1], inner.shape[1], 0, 3, 0, 37
    callable_at(gate_kernel(gelu, torch.float32), GATE_ARGUMENTS)(wide.data_ptr(), inner.data_ptr(), *shape)
    gate, up = wide.chunk(2, dim=1)
    act = torch.nn.functional.gelu(gate, approximate="tanh") if gelu else torch.nn.functional.silu(gate)
    assert torch.allclose(inner, act * up, atol=1e-6)
