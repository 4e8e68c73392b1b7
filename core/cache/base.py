"""The one interface of KV caches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from core.attention.mask import FULL, Reach

if TYPE_CHECKING:
    from core.cache.coded import CodedBlocks
    from core.decoder.rope import RopeTable


@dataclass(frozen=True)
class Layout:
    """What a cache must hold: KV heads of each layer (0 where a layer stores nothing), D, the most tokens of the run, and the
    number format.

    sizes: of a key and of a value in each layer, where they are not D. ropes: how the keys of each layer were rotated, None
    for a layer that rotates nothing; none at all outside of a decoder. pools: what the caches of one loaded model share.
    shaped_by: what shapes keys and values besides the tokens and the loaded model.
    """

    kv_heads: tuple[int, ...]
    head_size: int
    tokens: int
    dtype: torch.dtype
    sizes: tuple[tuple[int, int], ...] = ()
    ropes: tuple[RopeTable | None, ...] = ()
    pools: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)
    shaped_by: Hashable = None

    def size(self, layer: int) -> tuple[int, int]:
        """Numbers of a key and of a value of one head of `layer`."""
        return self.sizes[layer] if self.sizes else (self.head_size, self.head_size)

    def layer_nbytes(self, layer: int) -> int:
        """Bytes of the key and value of one token in `layer`."""
        return self.kv_heads[layer] * sum(self.size(layer)) * self.dtype.itemsize

    @cached_property
    def token_nbytes(self) -> int:
        """Bytes of the keys and values of one token in all layers."""
        return sum(map(self.layer_nbytes, range(len(self.kv_heads))))


@dataclass(frozen=True, eq=False)
class Versions:
    """Slots [S] that only queries at positions from `since` on and before `until` see, each once in several forms."""

    since: Tensor
    until: Tensor

    def allowed(self, queries: Tensor) -> Tensor:
        """Bool [T, S] for query positions [T]."""
        return (queries[:, None] >= self.since) & (queries[:, None] < self.until)


@dataclass(frozen=True)
class KeyValues:
    """What a cache hands to attention: keys and values [G, S, D], and the position of each slot [S], or [G, S] where heads
    hold different tokens.

    adapt: what turns queries [T, H, D], the last ones of the pass, into those that `keys` are to be multiplied with.
    versions: which queries see a slot, where a token is there in several forms.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor
    adapt: Callable[[Tensor], Tensor] | None = None
    versions: Versions | None = None


@dataclass(frozen=True)
class Coded:
    """Blocks that stand before the slots of a cache, of equal forms in all layers. seen: how many of their tokens each row of
    the pass sees.

    The first `exact` slots hold tokens that no block does; the slot after them holds the token after `stored` of the blocks',
    and each row sees from there on what it does not see in blocks. fresh: how many blocks after those the pass has to encode
    itself, layer by layer, for it brings tokens of theirs.
    """

    blocks: CodedBlocks
    seen: tuple[int, ...]
    stored: int
    exact: int
    fresh: int = 0


@dataclass(frozen=True)
class Slots:
    """Where compiled attention finds keys and values. New rows go to slots first, first + 1, …; row r sees up to end + r.

    positions: of every token of `coded` and every slot that the last row sees. table: int64, where each slot is in the buffers;
    None where slot s is s there or, for passes of many rows, `begin` + s.
    """

    first: int
    end: int
    buffers: Buffers
    positions: Tensor
    coded: Coded | None = None
    table: Tensor | None = None
    begin: int = 0


@dataclass(frozen=True)
class Held:
    """What a cache holds, for people to see. Fields as in CacheChanged."""

    positions: np.ndarray
    layers: np.ndarray
    bits: np.ndarray
    blocks: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    block_size: int = 0

    @classmethod
    def alike(cls, positions: Tensor, bits: float | Tensor) -> Held:
        """Positions [S] in all layers and heads; bits of all, or of each [S]."""
        each = torch.as_tensor(bits, dtype=torch.float32).expand(len(positions))
        return cls(positions.int().numpy()[None], np.array([-1], np.int32), each.numpy().copy())

    @classmethod
    def by_head(cls, positions: Sequence[Tensor], bits: float) -> Held:
        """Positions [G, S] of each layer, G = 0 where it stores nothing."""
        layers = np.repeat(np.arange(len(positions), dtype=np.int32), [len(part) for part in positions])
        rows = torch.cat([part for part in positions if len(part)])
        return cls(rows.int().numpy(), layers, np.full(rows.shape[1], bits, np.float32))


_LINE = 64  # bytes
Weigh = Callable[[Tensor, KeyValues, Tensor], Tensor]


class Cache(ABC):
    """Keys and values of earlier tokens, layer by layer.

    A pass calls `update` once for each layer and then `advance`. rewindable: whether `trim` can undo.
    """

    rewindable = True
    reach: Reach = FULL  # what the cache's own policy lets a query see
    observes = False  # whether what attention sees decides what is kept
    drops = ""  # why tokens are evicted
    by_head = False  # whether heads or layers hold different tokens

    def __init__(self, options: Any, layout: Layout) -> None:
        self.layout = layout
        self.length = 0  # tokens seen: the position of the next one

    @abstractmethod
    def update(self, layer: int, k: Tensor, v: Tensor) -> KeyValues:
        """Take k and v [T, G, D] of the next T tokens; what their queries may look at."""

    def parts(self, rows: int) -> Sequence[slice]:
        """The rows of a pass that attend together, where later ones depend on what `observe` was told of earlier ones."""
        return [slice(0, rows)]

    def observe(self, layer: int, q: Tensor, kv: KeyValues, positions: Tensor, weigh: Weigh) -> None:  # noqa: B027
        """Queries q [T, H, D] at `positions` [T] attended to `kv`; weigh(q, kv, positions) gives their weights [H, T, S]."""

    def adopt(self, tokens: Sequence[int]) -> int:
        """At the beginning of a run with the prompt `tokens`: take over what an earlier run left; how many tokens that is."""
        return 0

    def note(self, tokens: Sequence[int]) -> None:  # noqa: B027
        """A pass is over; `tokens` are the ids of all that is held."""

    def end_prompt(self) -> None:  # noqa: B027
        """The tokens so far are the whole prompt."""

    def slots(self, rows: int, reaches: Sequence[Reach]) -> Slots | None:
        """Room for the next `rows` tokens in plain buffers, for compiled attention; None where the policy needs more."""
        return None

    def prompt_slots(self, rows: int, reaches: Sequence[Reach]) -> Slots | None:
        """As `slots`, for compiled passes of many rows, which encode blocks themselves."""
        return self.slots(rows, reaches)

    def advance(self, count: int) -> None:
        """The pass is over: `count` tokens were added to every layer."""
        self.length += count

    def held(self) -> Held:
        """Which token is where."""
        return Held.alike(torch.arange(self.length), self.number_bits)

    @property
    def number_bits(self) -> float:
        """Of a number as the model gives it."""
        return 8.0 * self.layout.dtype.itemsize

    @property
    def span(self) -> int:
        """The most positions that a query of the run can be away from a key, plus one, for rotations that depend on it."""
        return self.layout.tokens

    @abstractmethod
    def trim(self, length: int) -> None:
        """Forget all but the first `length` tokens."""

    def fork(self) -> Self:
        """A branch that begins with what is held here and goes its own way."""
        return deepcopy(self, {id(self.layout): self.layout})

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes allocated for keys and values."""

    @property
    def offloaded(self) -> int:
        """Bytes of keys and values kept elsewhere."""
        return 0

    @property
    @abstractmethod
    def tokens(self) -> int:
        """Tokens whose keys and values are held."""

    @property
    def read_nbytes(self) -> int:
        """Bytes of keys and values that a step reads: those of the held tokens, without room for more."""
        return self.layout.token_nbytes * self.tokens


class Buffers:
    """Keys and values of L layers, [G, capacity, D] each; layers may differ in G and D."""

    def __init__(self, layout: Layout, capacity: int) -> None:
        self.layout = layout
        self._allocate(capacity)

    def _allocate(self, capacity: int) -> None:
        self.keys, self.values = _slabs(self.layout, capacity)
        self.capacity = capacity

    def write(self, layer: int, start: int, k: Tensor, v: Tensor) -> None:
        """Put k and v [T, G, D] into slots start … start + T − 1."""
        end = start + len(k)
        self.keys[layer][:, start:end] = k.transpose(0, 1)
        self.values[layer][:, start:end] = v.transpose(0, 1)

    def resize(self, capacity: int) -> None:
        """Room for `capacity` slots, keeping what is in those that there were before."""
        held, both = (self.keys, self.values), min(capacity, self.capacity)
        self._allocate(capacity)
        for old, new in zip(held, (self.keys, self.values), strict=True):
            for kept, after in zip(old, new, strict=True):
                after[:, :both] = kept[:, :both]

    def drop(self, first: int, count: int, held: int) -> None:
        """Forget `count` of `held` slots from `first` on; those after them move up."""
        for part in (*self.keys, *self.values):
            part[:, first : held - count] = part[:, first + count : held].clone()

    def addresses(self, layer: int) -> tuple[int, int]:
        """Of the keys and of the values of `layer`."""
        return self.keys[layer].data_ptr(), self.values[layer].data_ptr()

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in (*self.keys, *self.values))


def lines(nbytes: int) -> Tensor:
    """Zeroed bytes that begin with a line of the processor's caches, in huge pages where there are many: NumPy asks for them.

    The system hands pages out as zeros; filling them by torch's threads would delay the first token.
    """
    room = np.zeros(nbytes + _LINE, np.uint8)
    return torch.from_numpy(room)[-room.ctypes.data % _LINE :][:nbytes]


def _slabs(layout: Layout, capacity: int) -> tuple[list[Tensor], list[Tensor]]:
    """Zeroed keys and values of every layer, [G, capacity, D] each, in one piece of memory.

    A pass over a long cache needs huge pages: with small ones it waits for addresses.
    """
    layers = range(len(layout.kv_heads))
    shapes = [(layout.kv_heads[layer], capacity, layout.size(layer)[part]) for part in (0, 1) for layer in layers]
    sizes = [heads * capacity * size for heads, _, size in shapes]
    slab = lines(sum(sizes) * layout.dtype.itemsize).view(layout.dtype)
    parts = [part.view(shape) for part, shape in zip(torch.split(slab, sizes), shapes, strict=True)]
    return parts[: len(layers)], parts[len(layers) :]
