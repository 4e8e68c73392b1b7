"""Which keys a query may see, as arithmetic on positions: the same for NumPy (views) and torch (kernels)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any


class Pattern(ABC):
    """Which keys a query may see. Subclasses can be hashed, so that masks of equal patterns are made once."""

    @abstractmethod
    def sees(self, queries: Any, keys: Any, heads: Any) -> Any:
        """Whether queries see keys, by positions and KV heads: bool, for arrays or scalars of NumPy or torch that broadcast.

        Never true for a key after its query.
        """

    def allowed(self, queries: Any, keys: Any) -> Any:
        """Bool [T, S], or [G, T, S] where KV heads differ, for query positions [T] and key positions [S]."""
        return self.sees(queries[:, None], keys[None, :], 0)


@dataclass(frozen=True)
class Part:
    """Some of the keys of a sparse pattern. period: queries so far apart see mostly the same ones."""

    pattern: Pattern
    period: int = 1


class Sparse(Pattern):
    """A pattern whose parts have no key of a query in common, so that each can be computed by itself and joined."""

    @property
    @abstractmethod
    def parts(self) -> tuple[Part, ...]: ...


@dataclass(frozen=True)
class Reach(Pattern):
    """A query at position p sees keys at positions ≤ p that are over p − `window`, or under `sinks` and over p − `sink_reach`.

    None is unlimited. Two reaches, of which one has sinks at most, intersect with `&`.
    """

    sinks: int = 0
    window: int | None = None
    sink_reach: int | None = None

    def sees(self, queries: Any, keys: Any, heads: Any) -> Any:
        distance = queries - keys
        causal = distance >= 0
        if self.window is None:
            return causal
        sinks = keys < self.sinks
        if self.sink_reach is not None:
            sinks = sinks & (distance < self.sink_reach)
        return causal & ((distance < self.window) | sinks)

    def __and__(self, other: Reach) -> Reach:
        """What both let through."""
        if self.window is None or other.window is None:
            return self if other.window is None else other
        if other.sinks:
            return other & self
        window = min(self.window, other.window)
        reach = other.window if self.sink_reach is None else min(self.sink_reach, other.window)
        return Reach(self.sinks, window, reach) if self.sinks and reach > window else Reach(0, window)


FULL = Reach()


@dataclass(frozen=True)
class Both(Pattern):
    """What two patterns let through."""

    one: Pattern
    other: Pattern

    def sees(self, queries: Any, keys: Any, heads: Any) -> Any:
        return self.one.sees(queries, keys, heads) & self.other.sees(queries, keys, heads)

    def allowed(self, queries: Any, keys: Any) -> Any:
        return self.one.allowed(queries, keys) & self.other.allowed(queries, keys)


def within(pattern: Pattern, reach: Reach) -> Pattern:
    """What `pattern` and `reach` both let through."""
    return pattern if reach == FULL else Both(pattern, reach)
