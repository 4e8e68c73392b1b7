"""Which decoders, and which layers of a run, have compiled passes."""

from __future__ import annotations

from core.attention.context import Context
from core.attention.mask import Reach
from core.cache.base import Slots
from core.decoder.feed_forward import Gated
from core.decoder.linear import Linear
from core.decoder.model import Block, Decoder
from core.decoder.probe import Probe


def attends_plainly(decoder: Decoder) -> bool:
    """Whether every layer norms no whole rows of heads, clips nothing, and has biases at q, k and v alone."""
    attentions = [block.attention for block in decoder.blocks]
    return not decoder.traits.clip_qkv and not any(part.norm_rows or part.out.bias is not None for part in attentions)


def feeds_plainly(block: Block) -> bool:
    """Whether the feed-forward block is gated and without biases."""
    return isinstance(block.ffn, Gated) and block.ffn.gate_up.bias is None and block.ffn.down.bias is None


def linears_of(block: Block) -> tuple[Linear, Linear, Linear, Linear]:
    """qkv, out, gate and up, and down of a block that feeds plainly."""
    assert isinstance(block.ffn, Gated)
    return block.attention.qkv, block.attention.out, block.ffn.gate_up, block.ffn.down


def inside_of(context: Context, rows: int, probe: Probe) -> tuple[tuple[Reach | None, ...], Slots | None]:
    """What is seen in each layer that attends in compiled code, and where its keys and values go; None for other layers.

    Sinks that a layer's own window ends are beyond the compiled mask, and what it shows has one position for each slot.
    """
    reaches = [mechanism.reach for mechanism in context.mechanisms]
    inside = tuple(None if reach is None or reach.sink_reach is not None else reach for reach in reaches)
    seen = [reach for reach in inside if reach is not None]
    shows = not (probe.attention_layers and context.cache.by_head)
    slots = context.cache.slots(rows, seen) if seen and shows else None
    return (inside if slots is not None else (None,) * len(inside)), slots
