"""A function under construction in LLVM IR: loops, vectors of sixteen, loads and stores at integer addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from llvmlite import ir

from core.compiled.jit import compiled

LANES = 16

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
F32, F16, VOID = ir.FloatType(), ir.HalfType(), ir.VoidType()

Value = Any
Body = Callable[[Value, list[Value]], Sequence[Value]]
Sweep = Callable[[Value, list[Value], int], Sequence[Value]]
Join = Callable[[Value, Value], Value]


def vector(kind: Any, lanes: int = LANES) -> Any:
    return ir.VectorType(kind, lanes)


VI32, VF32 = vector(I32), vector(F32)


class Emitter:
    """One function of integers that returns nothing. Arguments are attributes, by name."""

    def __init__(self, name: str, arguments: str) -> None:
        self.name, self.module = name, ir.Module(name)
        names = arguments.split()
        kind = ir.FunctionType(ir.VoidType(), [I64] * len(names))
        self.function = ir.Function(self.module, kind, name)
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))
        self._arguments = dict(zip(names, self.function.args, strict=True))

    def __getattr__(self, name: str) -> Value:
        try:
            return self.__dict__["_arguments"][name]
        except KeyError:
            raise AttributeError(name) from None

    def finish(self) -> int:
        """Compile; returns the address."""
        self.b.ret_void()
        return compiled(str(self.module), self.name)

    def loop(self, first: Value, last: Value, carried: Sequence[Value], body: Body, step: Value | int = 1) -> list[Value]:
        """for i in range(first, last, step): carried = body(i, carried); returns what is carried in the end."""
        b, before = self.b, self.b.block
        head, inner, done = (self.function.append_basic_block(part) for part in ("head", "body", "done"))
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(I64)
        phis = [b.phi(value.type) for value in carried]
        b.cbranch(b.icmp_signed("<", index, last), inner, done)
        b.position_at_end(inner)
        after = body(index, phis)
        following = b.add(index, number(step) if isinstance(step, int) else step)
        for phi, start, new in zip([index, *phis], [first, *carried], [following, *after], strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(new, b.block)
        b.branch(head)
        b.position_at_end(done)
        return phis

    def sweep(
        self,
        first: Value,
        last: Value,
        starts: Sequence[Value],
        body: Sweep,
        join: Callable[[Value, Value], Value] | None = None,
        lanes: int = LANES,
    ) -> list[Value]:
        """carried = body(i, carried, lanes) for so many places at a time, and then for one after the other.

        What is carried begins as the scalars `starts` in every lane; lanes are joined in between.
        """
        whole = self.b.add(first, self.b.and_(self.b.sub(last, first), number(-lanes)))
        spread = [self.spread(start, lanes) for start in starts]
        vectors = self.loop(first, whole, spread, lambda i, carried: body(i, carried, lanes), step=lanes)
        scalars = [self.joined(value, join) for value in vectors] if join else []
        return self.loop(whole, last, scalars, lambda i, carried: body(i, carried, 1))

    def cases(self, value: Value, known: Iterable[int], body: Callable[[int], object]) -> None:
        """Do body(n) where `value` is n of `known`, and nothing for any other."""
        done = self.function.append_basic_block("done")
        choice = self.b.switch(value, done)
        for n in known:
            case = self.function.append_basic_block(f"case{n}")
            choice.add_case(number(n), case)
            self.b.position_at_end(case)
            body(n)
            self.b.branch(done)
        self.b.position_at_end(done)

    def at(self, base: Value, index: Value, size: int, beyond: int = 0) -> Value:
        """base + index · size + beyond, with index a value or a number."""
        if isinstance(index, int):
            return self.b.add(base, number(index * size + beyond))
        place = self.b.add(base, self.b.mul(index, number(size)))
        return self.b.add(place, number(beyond)) if beyond else place

    def stack(self, nbytes: int, align: int) -> Value:
        """The address of memory that is there until the function returns."""
        place = self.b.alloca(I8, nbytes)
        place.align = align
        return self.b.ptrtoint(place, I64)

    def pointer(self, address: Value) -> Value:
        return self.b.inttoptr(address, I8.as_pointer())

    def least(self, x: Value, y: Value) -> Value:
        """The lesser of two signed integers."""
        return self.b.select(self.b.icmp_signed("<", x, y), x, y)

    def load(self, address: Value, kind: Any, align: int) -> Value:
        value = self.b.load(self.b.inttoptr(address, kind.as_pointer()))
        value.align = align
        return value

    def store(self, value: Value, address: Value, align: int = 4) -> None:
        self.b.store(value, self.b.inttoptr(address, value.type.as_pointer())).align = align

    def spread(self, scalar: Value, lanes: int = LANES) -> Value:
        """A vector with `scalar` in every lane."""
        undefined = ir.Constant(vector(scalar.type, lanes), ir.Undefined)
        first = self.b.insert_element(undefined, scalar, ir.Constant(I32, 0))
        return self.b.shuffle_vector(first, undefined, ir.Constant(vector(I32, lanes), [0] * lanes))

    def picked(self, a: Value, b: Value, lanes: Iterable[int]) -> Value:
        """These lanes of two vectors; those of the second are counted on from the first's."""
        places = list(lanes)
        return self.b.shuffle_vector(a, b, ir.Constant(vector(I32, len(places)), places))

    def part(self, x: Value, first: int, lanes: int) -> Value:
        """So many lanes of a vector, from lane `first` on."""
        return x if lanes == x.type.count else self.picked(x, x, range(first, first + lanes))

    def concatenated(self, parts: Sequence[Value]) -> Value:
        """One vector of one or two."""
        return parts[0] if len(parts) == 1 else self.picked(parts[0], parts[1], range(2 * parts[0].type.count))

    def call(self, name: str, kind: Any, *values: Value) -> Value:
        """An LLVM intrinsic."""
        known = self.module.globals.get(name)
        function = known or ir.Function(self.module, ir.FunctionType(kind, [value.type for value in values]), name)
        return self.b.call(function, values)

    def unary(self, name: str, x: Value) -> Value:
        """An intrinsic of one float32, or of a vector of it: fabs, floor, rint."""
        return self.call(f"llvm.{name}.{_suffix(x)}", x.type, x)

    def highest(self, x: Value, y: Value) -> Value:
        return self.b.select(self.b.fcmp_ordered(">", x, y), x, y)

    def lowest(self, x: Value, y: Value) -> Value:
        return self.b.select(self.b.fcmp_ordered("<", x, y), x, y)

    def joined(self, value: Value, join: Join) -> Value:
        """The lanes of a vector joined into one, halves with halves."""
        lanes = value.type.count
        while lanes > 1:
            lanes //= 2
            value = join(*(self.part(value, start, lanes) for start in (0, lanes)))
        return self.b.extract_element(value, ir.Constant(I32, 0))

    def float_argument(self, bits: Value) -> Value:
        """The float32 whose bits an integer argument carries."""
        return self.b.bitcast(self.b.trunc(bits, I32), F32)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        return self.call(f"llvm.fma.{_suffix(a)}", a.type, a, b, c)

    def prefetch(self, address: Value, near: bool = True) -> None:
        """Ask for the cache line at `address`: into the nearest cache, or into one with room for a longer run ahead."""
        self.call("llvm.prefetch.p0", VOID, self.pointer(address), *(ir.Constant(I32, n) for n in (0, 3 if near else 1, 1)))


def lanes_of(x: Value) -> int:
    """1 of a scalar."""
    return x.type.count if isinstance(x.type, ir.VectorType) else 1


def _suffix(x: Value) -> str:
    """How LLVM names the type of `x` in an intrinsic."""
    return f"v{x.type.count}f32" if isinstance(x.type, ir.VectorType) else "f32"


def number(value: int) -> Value:
    return ir.Constant(I64, value)


def constant(kind: Any, value: float) -> Value:
    """A vector of one value, or a scalar."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)
