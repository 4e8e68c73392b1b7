"""Neurons of a feed-forward block into equal groups that are active on the same tokens."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

_DIRECTIONS = 64  # a neuron's activity over the tokens, projected onto so many random directions
_ROUNDS = 8


def balanced_groups(activity: Tensor, count: int) -> Tensor:
    """activity [F, N] ≥ 0, what each neuron adds to each token, to the group [F] of each neuron; groups are equally large.

    Neurons are clustered by the direction of their activity, then moved to where they are missed least: a token that
    leaves out its weakest groups should lose as little activity as can be, whatever the number that it leaves out.
    """
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(activity.shape[1], _DIRECTIONS, generator=generator)
    points = torch.nn.functional.normalize(activity, dim=1) @ directions / _DIRECTIONS**0.5
    groups = _clustered(points, _spread(points, count, generator))
    return _missed_least(activity.square(), groups, count)


def _spread(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """First centres, far from each other (k-means++)."""
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    distances = torch.cdist(points, centres)[:, 0].square()
    while len(centres) < count:
        chosen = torch.multinomial(distances + 1e-12, 1, generator=generator)
        centres = torch.cat((centres, points[chosen]))
        distances = torch.minimum(distances, torch.cdist(points, points[chosen])[:, 0].square())
    return centres


def _clustered(points: Tensor, centres: Tensor) -> Tensor:
    groups = _assigned(torch.cdist(points, centres).square())
    for _ in range(_ROUNDS):
        sums = torch.zeros_like(centres).index_add_(0, groups, points)
        centres = sums * (len(centres) / len(points))
        moved = _assigned(torch.cdist(points, centres).square())
        if torch.equal(moved, groups):
            break
        groups = moved
    return groups


def _missed_least(energy: Tensor, groups: Tensor, count: int) -> Tensor:
    """Alternate between ranking each token's groups and moving neurons; energy [F, N]."""
    weights = torch.linspace(1, 0, count).sqrt()  # the weaker a group is for a token, the likelier it is left out
    for _ in range(_ROUNDS):
        strength = energy.new_zeros(count, energy.shape[1]).index_add_(0, groups, energy)  # [E, N]
        ranks = strength.argsort(dim=0).argsort(dim=0)
        moved = _assigned(energy @ weights[ranks].T)
        if torch.equal(moved, groups):
            break
        groups = moved
    return groups


def _assigned(costs: Tensor) -> Tensor:
    """costs [F, E] to groups of F/E neurons each; who would lose most by a second choice chooses first."""
    best = costs.topk(2, dim=1, largest=False).values
    order = (best[:, 1] - best[:, 0]).argsort(descending=True, stable=True)
    return torch.from_numpy(_fill(costs.numpy(), order.numpy(), len(costs) // costs.shape[1]))


@njit(nogil=True)
def _fill(costs, order, capacity):  # type: ignore[no-untyped-def]
    room = np.full(costs.shape[1], capacity)
    groups = np.empty(len(costs), np.int64)
    for neuron in order:
        chosen = -1
        for group in range(costs.shape[1]):
            if room[group] > 0 and (chosen < 0 or costs[neuron, group] < costs[neuron, chosen]):
                chosen = group
        groups[neuron] = chosen
        room[chosen] -= 1
    return groups
