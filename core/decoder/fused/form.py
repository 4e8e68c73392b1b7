"""Which decoders have compiled passes."""

from __future__ import annotations

from core.decoder.feed_forward import Gated
from core.decoder.linear import Linear
from core.decoder.model import Attention, Block, Decoder


def is_plain(decoder: Decoder) -> bool:
    """Whether attention is plain, and every block is gated and without biases."""
    return attends_plainly(decoder) and all(feeds_plainly(block) for block in decoder.blocks)


def attends_plainly(decoder: Decoder) -> bool:
    """Whether every layer norms no whole rows of heads, clips nothing, caches no latent, and has biases at q, k and v alone."""
    return not decoder.traits.clip_qkv and all(_is_plain(block.attention) for block in decoder.blocks)


def _is_plain(attention: Attention) -> bool:
    return not attention.norm_rows and attention.out.bias is None and attention.latent is None


def feeds_plainly(block: Block) -> bool:
    """Whether the feed-forward block is gated and without biases."""
    return isinstance(block.ffn, Gated) and block.ffn.gate_up.bias is None and block.ffn.down.bias is None


def linears_of(block: Block) -> tuple[Linear, Linear, Linear, Linear]:
    """qkv, out, gate and up, and down of a block that feeds plainly."""
    assert isinstance(block.ffn, Gated)
    return block.attention.qkv, block.attention.out, block.ffn.gate_up, block.ffn.down
