"""Which decoders, and which layers of a run, have compiled passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import UnionType
from typing import TypeVar

import torch

from core.attention.coded_kernel import has_kernels
from core.attention.context import Context
from core.attention.mask import FULL, Pattern, Reach
from core.attention.mechanism import Chosen, Mechanism
from core.cache.base import Coded, Slots
from core.compiled.emitter import LANES
from core.decoder.feed_forward import Gated, Mixture, Split
from core.decoder.linear import Linear, Part
from core.decoder.model import Attention, Block, Decoder
from core.decoder.probe import Probe

P = TypeVar("P", bound=Pattern | Chosen)
Seen = Pattern | Chosen
Inside = tuple[tuple[Seen | None, ...], Slots | None]


def attends_plainly(decoder: Decoder) -> bool:
    """Whether every layer norms no whole rows of heads, clips nothing, and has biases at q, k and v alone.

    Kernels take the numbers of a head in two halves of two at least.
    """
    in_halves = decoder.traits.head_size % 4 == 0
    return in_halves and not decoder.traits.clip_qkv and all(_is_plain(block.attention) for block in decoder.blocks)


def _is_plain(attention: Attention) -> bool:
    return not attention.norm_rows and attention.out.bias is None


def feeds_plainly(block: Block) -> bool:
    """Whether the feed-forward block is gated and without biases."""
    return isinstance(block.ffn, Gated) and block.ffn.gate_up.bias is None and block.ffn.down.bias is None


def split_of(block: Block) -> Split | None:
    """The feed-forward block where it is split into experts, without biases."""
    split = block.ffn
    if not isinstance(split, Split):
        return None
    return split if all(linear.bias is None for linear in (*split.gate_ups, split.down)) else None


def experts_of(block: Block) -> tuple[Split, list[Part]] | None:
    """Such a block, and the parts of its experts, where each is one that fills whole blocks of rows."""
    split = split_of(block)
    parts = [] if split is None else _single(split.gate_ups)
    return (split, parts) if split is not None and _fill_blocks(parts) else None


def mixture_of(block: Block) -> Mixture | None:
    """The feed-forward block where it is a trained mixture, without biases."""
    mixture = block.ffn
    if not isinstance(mixture, Mixture):
        return None
    return mixture if all(one.gate_up.bias is None and one.down.bias is None for one in mixture.members) else None


def members_of(block: Block) -> tuple[Mixture, list[Part], list[Part]] | None:
    """Such a block, and the parts of gate and up, and of down, of its experts, where each is one.

    Gate and up fill whole blocks of rows, equally many in all experts but the shared one.
    """
    mixture = mixture_of(block)
    if mixture is None:
        return None
    gate_ups, downs = (_single(linears) for linears in zip(*((one.gate_up, one.down) for one in mixture.members), strict=True))
    alike = len({part.rows for part in gate_ups[: len(mixture.experts)]}) == 1
    return (mixture, gate_ups, downs) if alike and downs and _fill_blocks(gate_ups) else None


def _single(linears: Sequence[Linear]) -> list[Part]:
    """The parts of these, where each is of one; else none."""
    lists = [linear.parts() or [] for linear in linears]
    return [parts[0] for parts in lists] if all(len(parts) == 1 for parts in lists) else []


def _fill_blocks(parts: list[Part]) -> bool:
    """Whether there are any, and no block of rows is partly filled."""
    return bool(parts) and not any(part.rows % LANES for part in parts)


def linears_of(block: Block) -> tuple[Linear, Linear, Linear, Linear]:
    """qkv, out, gate and up, and down of a block that feeds plainly."""
    assert isinstance(block.ffn, Gated)
    return block.attention.qkv, block.attention.out, block.ffn.gate_up, block.ffn.down


def inside_of(context: Context, rows: int, probe: Probe) -> Inside:
    """What is seen in each layer that attends in compiled code, and where its keys and values go; None for other layers.

    Latents are known as they are cached, and where slots are positions that lie in order.
    Sinks that a layer's own window ends are beyond the compiled mask, what it shows has one position for each slot, and it
    does not know the scores of what it hides, which the attention mass kept is measured by.
    """
    layers = zip(context.mechanisms, _latent_layers(context), strict=True)
    patterns = [mechanism.reach or (None if latent else mechanism.listed or mechanism.chooses) for mechanism, latent in layers]
    inside, slots = _inside_of(context, probe, patterns, partial(context.cache.slots, rows))
    if slots is None or not _is_known(slots.coded):
        return (None,) * len(inside), None
    kinds = _kinds(slots, context)
    if kinds is not Seen:
        inside = _without_latents(inside, context)
    return tuple(pattern if isinstance(pattern, kinds) else None for pattern in inside), slots


def _latent_layers(context: Context) -> list[bool]:
    """Which layers cache latents."""
    return [store.expand is not None for store in context.stores]


def _without_latents(inside: tuple[P | None, ...], context: Context) -> tuple[P | None, ...]:
    """The same where layers that cache latents attend outside."""
    return tuple(None if latent else pattern for latent, pattern in zip(_latent_layers(context), inside, strict=True))


def _kinds(slots: Slots, context: Context) -> type[Seen] | UnionType:
    """What can be seen: lists where slots are the positions of all tokens, choices where they also lie in order."""
    if not _by_position(slots, context):
        return Reach
    return Seen if slots.table is None else Pattern


def _by_position(slots: Slots, context: Context) -> bool:
    """Whether slots are the positions of all tokens."""
    return slots.coded is None and slots.first == slots.end == context.length and context.cache.reach == FULL


def prompt_inside_of(
    context: Context, rows: int, probe: Probe, dtype: torch.dtype
) -> tuple[tuple[Reach | None, ...], Slots | None]:
    """The same for passes of many rows in numbers of `dtype`, which is not narrower than the cache's.

    Over coded blocks, neither capped scores nor what is shown have a compiled form.
    """
    reaches = [mechanism.reach for mechanism in context.mechanisms]
    inside, slots = _inside_of(context, probe, reaches, partial(context.cache.prompt_slots, rows))
    if slots is None or slots.buffers.keys[0].dtype.itemsize > dtype.itemsize:
        return (None,) * len(inside), None
    if not _by_position(slots, context):
        inside = _without_latents(inside, context)
    if slots.coded is not None:
        outside = [bool(one.site.cap) or layer in probe.attention_layers for layer, one in enumerate(context.mechanisms)]
        inside = tuple(None if out else reach for out, reach in zip(outside, inside, strict=True))
    return inside, slots


def _inside_of(
    context: Context, probe: Probe, patterns: Sequence[P | None], slots_for: Callable[[Sequence[Reach]], Slots | None]
) -> tuple[tuple[P | None, ...], Slots | None]:
    inside = tuple(
        pattern if _is_inside(mechanism, pattern, layer in probe.attention_layers) else None
        for layer, (mechanism, pattern) in enumerate(zip(context.mechanisms, patterns, strict=True))
    )
    seen = [pattern if isinstance(pattern, Reach) else FULL for pattern in inside if pattern is not None]
    shows = not (probe.attention_layers and context.cache.by_head)
    return inside, slots_for(seen) if seen and shows else None


def _is_known(coded: Coded | None) -> bool:
    """Whether there are kernels for its blocks."""
    return coded is None or (len(set(coded.blocks.forms)) == 1 and has_kernels(coded.blocks.forms[0]))


def _is_inside(mechanism: Mechanism, pattern: Seen | None, shown: bool) -> bool:
    if isinstance(pattern, Reach) and pattern.sink_reach is not None:
        return False
    return pattern is not None and not (shown and mechanism.hides)
