"""Triton's kernels, interpreted on the processor or run on a GPU, against plain torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import silu

from core.attention.bigbird import BigBird
from core.attention.mask import FULL, Pattern, Reach, within
from core.attention.strided import Strided
from core.cuda.groups import Groups
from core.cuda.plain import Plain
from core.cuda.span import Span
from core.decoder.feed_forward import gelu_tanh
from core.decoder.model import RmsNorm
from core.decoder.rope import RopeTable
from core.decoder.traits import Rope

PLAIN = Plain()
ROUNDING = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}  # of what is compared, relative to its largest
DTYPES = pytest.mark.parametrize("dtype", ROUNDING, ids=str)


@pytest.fixture
def multiplied(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """A number format in which kernels can multiply here."""
    if dtype == torch.bfloat16 and device.type == "cpu":
        pytest.skip("Triton's interpreter has no products of bfloat16")
    return dtype


@pytest.fixture(autouse=True)
def _on_the_device(device: torch.device) -> Any:
    with device:
        yield


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    torch.manual_seed(sum(shape))
    return torch.randn(shape).to(dtype)


def close(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> bool:
    return bool((found.float() - expected.float()).abs().max() <= ROUNDING[dtype] * expected.float().abs().max())


def groups_of(n: int, k: int, bits: int, size: int, offsets: bool) -> Groups:
    torch.manual_seed(n + k + bits)
    codes, count = torch.randint(0, 2**bits, (n, k), dtype=torch.uint8), -(-k // size)
    scales = (torch.rand(n, count) + 0.5).half().float() / 2**bits
    return Groups.of(codes, scales, -scales * 2 ** (bits - 1) if offsets else None, bits, size)


FORMATS = pytest.mark.parametrize(
    ("bits", "size", "k", "offsets"),
    [
        (4, 128, 640, True), (4, 64, 256, False), (4, 48, 96, True), (3, 16, 48, True),
        (8, 128, 256, True), (8, 100, 100, True), (6, 16, 96, False),
    ],
)  # fmt: skip


@FORMATS
def test_that_codes_are_the_values_they_were_packed_from(bits: int, size: int, k: int, offsets: bool) -> None:
    torch.manual_seed(n := 20)
    codes, count = torch.randint(0, 2**bits, (n, k), dtype=torch.uint8), -(-k // size)
    scales, levels = torch.rand(2, n, count)
    groups = Groups.of(codes, scales, levels if offsets else None, bits, size)
    of_column = torch.arange(k) // size
    plain = codes.float() if offsets else codes.float() - 2 ** (bits - 1)
    expected = plain * scales[:, of_column] + (levels[:, of_column] if offsets else 0)
    assert torch.equal(groups.values(), expected)
    assert torch.equal(groups.values(torch.tensor([3, 0, 3])), expected[[3, 0, 3]])


@DTYPES
@FORMATS
def test_that_packed_products_equal_products_with_the_values(
    fused: Any, bits: int, size: int, k: int, offsets: bool, multiplied: torch.dtype
) -> None:
    groups, bias = groups_of(20, k, bits, size, offsets), random(20)
    for rows in (3, 40, 130) if multiplied != torch.float32 else (3,):  # always unpacked
        x = random(rows, k, dtype=multiplied)
        expected = x.float() @ groups.values().T + bias
        assert close(fused.grouped_product(x, groups, bias), expected, multiplied)


@DTYPES
@FORMATS
def test_that_matrices_are_unpacked(fused: Any, bits: int, size: int, k: int, offsets: bool, dtype: torch.dtype) -> None:
    groups = groups_of(20, k, bits, size, offsets)
    assert close(fused.unpacked(groups, dtype), groups.values(), dtype)


@DTYPES
def test_that_products_with_plain_matrices_equal_those_of_torch(fused: Any, multiplied: torch.dtype) -> None:
    weight, bias = random(20, 600, dtype=multiplied), random(20, dtype=multiplied)
    x = random(5, 600, dtype=multiplied)
    assert close(fused.product(x, weight, bias), x.float() @ weight.float().T + bias.float(), multiplied)
    assert close(fused.product(x, weight, None), x.float() @ weight.float().T, multiplied)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_that_a_row_comes_out_the_same_bit_for_bit_in_any_company(fused: Any, bits: int) -> None:
    x = random(5, 512, dtype=torch.float16)
    if bits == 16:
        weight = random(20, 512, dtype=torch.float16)
        alone = torch.cat([fused.product(row, weight, None) for row in x.split(1)])
        assert torch.equal(fused.product(x, weight, None), alone)
    else:
        groups = groups_of(20, 512, bits, 128, True)
        alone = torch.cat([fused.grouped_product(row, groups, None) for row in x.split(1)])
        assert torch.equal(fused.grouped_product(x, groups, None), alone)


@DTYPES
@pytest.mark.parametrize(("after", "before"), [(False, True), (True, True), (True, False)])
def test_that_residual_and_norms_are_joined(fused: Any, dtype: torch.dtype, after: bool, before: bool) -> None:
    norms = [RmsNorm(random(1, 48)[0].abs(), 1e-5) if there else None for there in (after, before)]
    y = random(3, 48, dtype=dtype)
    mine, its = random(3, 48) * 2, random(3, 48) * 2
    found = fused.join(mine, y, norms[0], 0.4, norms[1], dtype)
    assert close(found, PLAIN.join(its, y, norms[0], 0.4, norms[1], dtype), dtype)
    assert close(mine, its, torch.float32)
    assert close(fused.join(mine, None, None, 1.0, norms[1], dtype), PLAIN.join(its, None, None, 1.0, norms[1], dtype), dtype)


def token_by_token(pair: torch.Tensor) -> torch.Tensor:
    """Keys and values [2, B, G, S, D] as an offloaded cache lays them: those of a token together."""
    return pair.permute(3, 0, 1, 2, 4).contiguous().permute(1, 2, 3, 0, 4)


@DTYPES
@pytest.mark.parametrize("rotated", [0, 8, 12])
def test_that_heads_are_rotated_and_kept(fused: Any, dtype: torch.dtype, rotated: int) -> None:
    B, T, H, G, D, S = 2, 3, 4, 2, 12, 32
    joint = random(B, T, (H + 2 * G) * D, dtype=dtype)
    q, k, v = (part.view(B, T, -1, D) for part in joint.split([H * D, G * D, G * D], dim=-1))
    rope = RopeTable(Rope(100.0, rotated), *random(2, S, rotated // 2)) if rotated else None
    positions = torch.tensor([5, 6, 30])
    mine, its = torch.zeros(2, B, G, S, D, dtype=dtype), torch.zeros(2, B, G, S, D, dtype=dtype)
    found = fused.keep(q, k, v, rope, positions, *mine)
    assert close(found, PLAIN.keep(q, k, v, rope, positions, *its), dtype)
    assert close(mine, its, dtype)
    away = token_by_token(torch.zeros_like(mine))
    fused.keep(q, k, v, rope, positions, *away)
    assert torch.equal(away, mine)


RANDOM = BigBird(16, 2, 1, 2, seed=3, heads=2)
REACHES = [(FULL, 0.0), (FULL, 3.0), (Reach(0, 20), 0.0), (Reach(3, 20), 3.0), (Reach(3, 20, 90), 0.0)]


@DTYPES
@pytest.mark.parametrize(
    ("pattern", "cap"), [*REACHES, (Strided(9, 16), 0.0), (RANDOM, 3.0), (within(RANDOM, Reach(0, 70)), 0.0)], ids=str
)
def test_that_attention_of_few_rows_equals_plain_attention(
    fused: Any, multiplied: torch.dtype, pattern: Pattern, cap: float
) -> None:
    B, T, H, G, D, S = 2, 2, 6, 2, 12, 256
    q, pair = random(B, T, H, D, dtype=multiplied), random(2, B, G, S, D, dtype=multiplied)

    def attend(kernels: Any, positions: list[int], slots: int, pair: torch.Tensor = pair) -> torch.Tensor:
        rows = slice(T - len(positions), T)
        span = Span(torch.tensor(positions), slots, last=False)
        return kernels.attend(q[:, rows].contiguous(), *pair, span, pattern, 0.4, cap)

    found = attend(fused, [99, 100], 128)
    assert close(found, attend(PLAIN, [99, 100], 128), multiplied)
    assert torch.equal(attend(fused, [99, 100], 256), found)
    assert torch.equal(attend(fused, [99, 100], 101), found)
    assert torch.equal(attend(fused, [100], 128), found[:, 1:])
    assert torch.equal(attend(fused, [99, 100], 128, token_by_token(pair)), found)


@DTYPES
@pytest.mark.parametrize("activation", [silu, gelu_tanh])
def test_that_gates_are_those_of_torch(fused: Any, dtype: torch.dtype, activation: Any) -> None:
    gate_up = random(3, 80, dtype=dtype) * 3
    assert close(fused.gate(gate_up, activation), PLAIN.gate(gate_up.float(), activation), dtype)


@pytest.mark.parametrize(("capability", "dtype"), [(80, "bfloat16"), (90, "float16")])
def test_that_every_kernel_compiles_for_a_gpu_that_is_not_there(capability: int, dtype: str) -> None:
    pytest.importorskip("triton", reason="triton is not installed; torch for CUDA brings it")
    root = Path(__file__).resolve().parents[3]
    settings = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.core.cuda.compiling", str(capability), dtype]
    done = subprocess.run(command, cwd=root, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["kernel"] for line in told} == {
        "few_packed", "few_dense", "many_packed", "unpack", "join", "keep", "attend_part", "attend_whole", "gate",
    }  # fmt: skip
    assert max(line["spilled"] for line in told) <= 64
    assert max(line["shared"] for line in told) <= 160 * 1024
