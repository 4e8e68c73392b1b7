"""Where a pass over the model spends its time, and what it shows of itself when asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# Weights, positions of keys and mass, as `Probe.attention` takes them; experts, weights and count, as `Probe.route` does.
Shown = tuple["np.ndarray", "np.ndarray", "np.ndarray | None"]
Routes = tuple["np.ndarray", "np.ndarray", int]


class Probe:
    """Charged by the decoder with every phase; receives captures of the layers it was asked for.

    After a pass the engine calls `take` for the phases, `take_attention` and `take_routing` for the captures.
    """

    def __init__(self, attention_layers: Collection[int] = (), routing: bool = False) -> None:
        self.attention_layers = frozenset(attention_layers)
        self.inspected = self.attention_layers  # those that any pass of the run may ask for
        self.attention_rows = 2**31  # only the last so many query rows of a pass are wanted
        self.routing = routing
        self._phases: dict[str, float] = defaultdict(float)
        self._last = perf_counter()
        self._attention: dict[int, Shown] = {}
        self._routes: dict[int, Routes] = {}

    def start(self) -> None:
        """Begin a pass: time before now is charged to nobody."""
        self._last = perf_counter()

    def lap(self, phase: str) -> None:
        """Charge the time since the last lap (or start) to `phase`."""
        now = perf_counter()
        self._phases[phase] += now - self._last
        self._last = now

    def add(self, phase: str, seconds: float) -> None:
        """Charge time measured elsewhere, such as inside a fused kernel."""
        self._phases[phase] += seconds

    def attention(self, layer: int, weights: np.ndarray, key_positions: np.ndarray, mass: np.ndarray | None = None) -> None:
        """weights [H, T, S] float16 of the last T query rows of the pass (at least those wanted), key_positions [S] int32.

        mass: the share [H, T] float32 of full attention that falls on what is seen; None where nothing is hidden.
        """
        self._attention[layer] = (weights, key_positions, mass)

    def route(self, layer: int, experts: np.ndarray, weights: np.ndarray, count: int) -> None:
        """experts [T, K] int16, weights [T, K] float16, out of `count` experts."""
        self._routes[layer] = (experts, weights, count)

    def take(self) -> dict[str, float]:
        """Phases in ms since the last take."""
        phases = {name: seconds * 1000 for name, seconds in self._phases.items()}
        self._phases.clear()
        return phases

    def take_attention(self) -> dict[int, Shown]:
        taken, self._attention = self._attention, {}
        return taken

    def take_routing(self) -> dict[int, Routes]:
        taken, self._routes = self._routes, {}
        return taken
