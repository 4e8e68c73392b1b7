"""From LLVM IR to callable machine code, kept on disk so that it is compiled once a machine."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from core.folders import cache_folder
from core.kept import keep, kept

_kept: list[Any] = []  # the libraries own the code


def compiled(ir: str, name: str) -> int:
    """The address of function `name` of the module `ir`."""
    path = cache_folder() / "compiled" / f"{hashlib.sha256(f'{_host()} {ir}'.encode()).hexdigest()[:32]}.o"
    stored = kept(path)
    code = _made(ir, path) if stored is None else stored.tobytes()
    library = llvm.JITLibraryBuilder().add_object_img(code).export_symbol(name).link(_jit(), f"{path.stem}-{len(_kept)}")
    _kept.append(library)
    return int(library[name])


@cache
def callable_at(address: int, arguments: int) -> Callable[..., None]:
    """The compiled function at `address`, which takes integers, for calls from Python; other threads run meanwhile."""
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * arguments)(address)


@cache
def register_lanes() -> int:
    """Float32 numbers of the processor's widest registers, of which those with sixteen are twice as many: sixteen or eight."""
    return 16 if llvm.get_host_cpu_features().get("avx512f") else 8


@cache
def summing_lanes() -> int:
    """How many sums one instruction adds the products of two words each, or of four bytes, to: sixteen, eight or none."""
    features = llvm.get_host_cpu_features()
    return 16 if features.get("avx512vnni") else 8 if features.get("avxvnni") else 0


def _made(ir: str, path: Path) -> bytes:
    machine = _machine()
    module = llvm.parse_assembly(ir)
    module.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    code: bytes = machine.emit_object(module)
    keep(path, [code])
    return code


@cache
def _host() -> str:
    """What the code depends on besides its IR."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return f"{llvmlite.__version__} {llvm.get_host_cpu_name()} {_features()}"


@cache
def _features() -> str:
    """Those of this processor.

    LLVM would make two instructions of a product with its sum, whose result is there earlier; here many sums are under way.
    """
    features = str(llvm.get_host_cpu_features().flatten())
    return f"{features},+fast-dpwssd" if summing_lanes() else features


@cache
def _machine() -> Any:
    _host()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        llvm.get_host_cpu_name(), _features(), opt=3, reloc="pic", codemodel="default", jit=True
    )


@cache
def _jit() -> Any:
    return llvm.create_lljit_compiler(_machine())
