"""Which decoders have compiled passes."""

from __future__ import annotations

from core.decoder.feed_forward import Gated
from core.decoder.linear import Linear
from core.decoder.model import Block, Decoder


def is_plain(decoder: Decoder) -> bool:
    """Whether every block is gated, norms no whole rows of heads, clips nothing, and has biases at q, k and v alone."""
    return not decoder.traits.clip_qkv and all(_is_plain(block) for block in decoder.blocks)


def linears_of(block: Block) -> tuple[Linear, Linear, Linear, Linear]:
    """qkv, out, gate and up, and down of a plain block."""
    assert isinstance(block.ffn, Gated)
    return block.attention.qkv, block.attention.out, block.ffn.gate_up, block.ffn.down


def _is_plain(block: Block) -> bool:
    if not isinstance(block.ffn, Gated) or block.attention.norm_rows:
        return False
    return all(linear.bias is None for linear in linears_of(block)[1:])
