"""Compiles the Triton kernels for a GPU that need not be there: `python -m tests.core.cuda.compiling 90 float16`.

Each is given the arguments that passes of a LLaMA-2-7B shape give it, and only compiled. Prints a line of JSON a kernel.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from core.attention.bigbird import BigBird
from core.attention.mask import Reach
from core.cuda import attention_kernels, fused, pass_kernels, product_kernels
from core.cuda.groups import Groups
from core.cuda.span import Span
from core.decoder.model import RmsNorm
from core.decoder.rope import RopeTable
from core.decoder.traits import Rope

C, H, D, F, S = 4096, 32, 128, 11008, 256
_TYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.int32: "i32", torch.int64: "i64",
          torch.uint8: "u8"}  # fmt: skip


class Compiling:
    """Stands for a kernel: compiles it for the arguments of a launch, and does not launch it."""

    def __init__(self, kernel: Any, capability: int) -> None:
        self.kernel, self.capability = kernel, capability

    def __getitem__(self, _grid: Any) -> Any:
        return self.compile

    def compile(self, *arguments: Any, num_warps: int, **constants: Any) -> None:
        names = self.kernel.arg_names[: len(arguments)]
        signature = dict(zip(names, map(_type, arguments))) | dict.fromkeys(constants, "constexpr")
        even = {(i,): [["tt.divisibility", 16]] for i, given in enumerate(arguments) if _aligned(given)}
        source = ASTSource(self.kernel, signature, constants, even)
        made = triton.compile(source, target=GPUTarget("cuda", self.capability, 32), options={"num_warps": num_warps})
        told = {name: constants[name] for name in ("ROWS", "BITS", "K", "C", "RUNS") if name in constants}
        registers, spilled = _registers(made.asm["cubin"])
        line = {
            "kernel": self.kernel.__name__,
            **told,
            "registers": registers,
            "spilled": spilled,
            "shared": made.metadata.shared,
        }
        sys.stdout.write(f"{json.dumps(line)}\n")


def _type(given: Any) -> str:
    if isinstance(given, torch.Tensor):
        return "*" + _TYPES[given.dtype]
    return "fp32" if isinstance(given, float) else "i32"


def _aligned(given: Any) -> bool:
    return isinstance(given, torch.Tensor) or (isinstance(given, int) and given % 16 == 0)


def _registers(cubin: bytes) -> tuple[int, int]:
    """Registers of a thread, and bytes of its stack, where spilled ones go."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    assert found is not None
    return int(found[1]), int(found[2])


def _groups(n: int, k: int, bits: int) -> Groups:
    scales = torch.empty(k // 128, n, dtype=torch.float16)
    return Groups(torch.empty(n, k * bits // 32, dtype=torch.int32), scales, scales, bits, 0, 128, 64, k)


def main(capability: int, dtype: torch.dtype) -> None:
    for module in (attention_kernels, pass_kernels, product_kernels):
        for name, kernel in list(vars(module).items()):
            if isinstance(kernel, triton.JITFunction) and not name.startswith("_"):
                setattr(module, name, Compiling(kernel, capability))
    kernels = fused.Fused()
    for rows in (1, 9, 100):
        x = torch.empty(rows, C, dtype=dtype)
        for bits in (4, 8):
            kernels.grouped_product(x, _groups(3 * C, C, bits), None)
        kernels.product(x, torch.empty(C, C, dtype=dtype), None)
    for bits in (4, 8):
        kernels.unpacked(_groups(F, C, bits), dtype)
    _step(kernels, dtype)


def _step(kernels: fused.Fused, dtype: torch.dtype) -> None:
    norm, table = RmsNorm(torch.empty(C), 1e-5), RopeTable(Rope(1e4, D), *torch.empty(2, S, D // 2))
    kernels.join(torch.empty(1, C), torch.empty(1, C, dtype=dtype), None, 1.0, norm, dtype)
    cache, positions = torch.empty(1, H, S, D, dtype=dtype), torch.zeros(1, dtype=torch.int64)
    q, k, v = torch.empty(1, 1, 3 * H, D, dtype=dtype).split(H, dim=2)
    q = kernels.keep(q, k, v, table, positions, cache, cache)
    for pattern, cap in ((Reach(), 0.0), (Reach(4, 100), 50.0), (BigBird(32, 3, 1, 2, heads=H), 0.0)):
        kernels.attend(q, cache, cache, Span(positions, S, last=False), pattern, 0.1, cap)
    kernels.gate(torch.empty(1, 2 * F, dtype=dtype), torch.nn.functional.silu)


if __name__ == "__main__":
    main(int(sys.argv[1]), getattr(torch, sys.argv[2]))
