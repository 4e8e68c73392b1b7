"""How a layer attends, as an object for each layer of a run, so that an attention technique can replace any of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from core.attention.mask import Pattern, Reach
from core.cache.base import Cache, KeyValues
from core.config import Choice
from core.decoder.probe import Probe
from core.layers import parse_layers
from core.models.info import ModelInfo

M = TypeVar("M")


@dataclass(frozen=True)
class Site:
    """A layer as an attention technique finds it.

    kv_heads: of this layer, after the heads technique. cap: soft cap of the scores, 0 for none. window: the layer's own
    sliding window. capacity: the most tokens of the run. dtype: the number format of cached keys and values.
    info: the model, for what was learned about it; None outside of runs.
    """

    layer: int
    query_heads: int
    kv_heads: int
    head_size: int
    scale: float
    cap: float
    window: int | None
    capacity: int
    dtype: torch.dtype
    info: ModelInfo | None = None


class Rows:
    """The query rows of one pass, and the masks that its layers share."""

    def __init__(self, positions: Tensor, probe: Probe) -> None:
        self.positions, self.probe = positions, probe
        self._made: dict[Hashable, tuple[Tensor, Any]] = {}

    def once(self, name: Hashable, keys: Tensor, make: Callable[[], M]) -> M:
        """What `make` gives for keys at positions [S] or [G, S], made once for all layers that hold the same keys."""
        known = self._made.get(name)
        if known is None or not (known[0] is keys or torch.equal(known[0], keys)):
            known = self._made[name] = keys, make()
        made: M = known[1]
        return made

    def shown(self, layer: int) -> bool:
        """Whether the probe wants to see the attention of `layer`."""
        return layer in self.probe.attention_layers


Expand = Callable[[KeyValues], KeyValues]


@dataclass(frozen=True)
class Store:
    """Where one layer's keys and values go. expand: what makes them of a latent, where the layer caches one."""

    cache: Cache
    layer: int
    expand: Expand | None = None

    @property
    def reach(self) -> Reach:
        """What the cache's own policy lets a query see."""
        return self.cache.reach

    def update(self, k: Tensor, v: Tensor) -> KeyValues:
        """Keep k and v [T, G, D] of the pass, or the parts of a latent [T, 1, r]; what its queries may look at."""
        held = self.cache.update(self.layer, k, v)
        return held if self.expand is None else self.expand(held)

    def of_pass(self, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """k and v [T, G, D] of the pass at `positions`, where they came as the parts of a latent."""
        if self.expand is None:
            return k, v
        whole = self.expand(KeyValues(k.transpose(0, 1), v.transpose(0, 1), positions))
        return whole.keys.transpose(0, 1), whole.values.transpose(0, 1)


@dataclass(frozen=True, eq=False)
class Blocks:
    """Blocks of `block` tokens, of which a query sees the first, the most recent, and the `best` others by their summaries.

    summaries [G, room for blocks, D], means, or [G, room, 2 · D], bounds: see core/attention/block_topk.py.
    """

    summaries: Tensor
    block: int
    best: int
    first: int
    local: int
    bounds: bool


@dataclass(frozen=True)
class Highest:
    """Of each query head, the query's own key and the `best` − 1 others with the highest scores. See core/attention/topk.py."""

    best: int


@dataclass(frozen=True, eq=False)
class Buckets:
    """Of each query head, keys that share a bucket of a round with the query, and the last `window`. See core/attention/lsh.py.

    rotations float32 [D, rounds · buckets / 2]. of_keys uint8 [rounds, G, room for tokens].
    """

    rotations: Tensor
    of_keys: Tensor
    window: int


Chosen = Blocks | Highest | Buckets


class Mechanism(ABC):
    """Attention of one layer in one run.

    reach: what a query sees, where the mechanism is softmax attention over a Reach and nothing more, which compiled passes
    compute themselves; None for everything else. listed: the same for any other pattern of positions; chooses: the
    same where a query chooses, after which a compiled pass calls `follow`. stores: whether keys and values go to the run's
    cache at all; a mechanism that keeps a state of its own instead tells its bytes, and forgets everything when a pass begins
    at position 0.
    rewindable: whether `trim` can undo the rows of the last pass.
    """

    reach: Reach | None = None
    listed: Pattern | None = None
    chooses: Chosen | None = None
    stores = True
    rewindable = True

    def __init__(self, site: Site) -> None:
        self.site = site

    @property
    def hides(self) -> bool:
        """Whether less is seen than the layer was trained to see."""
        return self.reach != Reach(0, self.site.window)

    @abstractmethod
    def attend(self, q: Tensor, k: Tensor, v: Tensor, store: Store, rows: Rows) -> Tensor:
        """Attention of q [T, H, D] over what came before and over k and v [T, G, D]; returns [T, H, D] float32.

        All are rotated already. Where the layer caches a latent, k and v are its parts if the mechanism stores, for
        `store.update` alone. Hands the weights to the probe of `rows` where it wants to see them.
        """

    def follow(self, keys: Tensor, first: int) -> None:  # noqa: B027
        """A compiled pass has attended for tokens from position `first` on, whose keys are among `keys` [G, S, D]."""

    def trim(self, length: int) -> None:  # noqa: B027
        """Forget all but the first `length` tokens, where the mechanism has a state of its own."""

    @property
    def nbytes(self) -> int:
        """Bytes of the mechanism's own state."""
        return 0

    @property
    def tokens(self) -> int:
        """Tokens whose keys and values are kept in that state as they are."""
        return 0


Maker = Callable[[Any, Site], Mechanism]  # from a technique's options and a layer


def mechanisms(choice: Choice, sites: Sequence[Site]) -> tuple[Mechanism, ...]:
    """The mechanism of every layer under the attention technique `choice`; full attention where it does not apply."""
    from core.attention.softmax import full

    chosen = parse_layers(getattr(choice.options, "layers", "all"), len(sites))
    make: Maker = choice.technique.load()
    return tuple(make(choice.options, site) if site.layer in chosen else full(choice.options, site) for site in sites)
