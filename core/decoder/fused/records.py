"""What the compiled step works on: records of addresses and sizes, as NumPy makes them and compiled code reads them."""

from __future__ import annotations

import numpy as np


def _integers(names: str) -> list[tuple[str, type]]:
    return [(name, np.int64) for name in names.split()]


# One product. groups and units: see core/decoder/linear.py; first_row: the first output row it fills.
PART = np.dtype(_integers("function codes scales offsets groups units blocks first_row"))

# One layer. qkv, out, gate_up and down are indices of their first parts, end that of the part after them. Biases and head
# norms are 0 where there are none. listed: what `Lists` holds, where neither sinks nor window say what is seen, else 0; lists:
# how many a row has. Where rows choose what is listed: summaries to bounds, what `Blocks` holds; highest, of `Highest`; and
# rotations to nearest, of `Buckets`; else 0. score_room: of a row of scores of `Ranks`. records: of coded blocks.
# attends_outside and feeds_outside: whether Python computes its attention, its feed-forward. experts: 0 of a dense block; else
# each part of gate_up is an expert of `per_expert` neurons, of which a row takes `used`, router float32 [E, C], router_bias
# [E], and neurons int64 [E, per_expert], the places of the neurons of each. mixes: 1 of a trained mixture, which has a part of
# down for each expert instead, and weights them; normalises: to one in all. per_shared: neurons of the expert after the last,
# which every row takes by the last row of the router; 0 where there is none. latent: the layer's `LATENT`, 0 where it caches
# keys and values.
LAYER = np.dtype(
    _integers("qkv out gate_up down end keys values records kv_heads cos sin half sinks window listed biases q_norm k_norm")
    + _integers("attends_outside feeds_outside experts used per_expert router router_bias neurons")
    + _integers("mixes normalises per_shared")
    + _integers("lists summaries summary_room block best first_blocks local_blocks bounds highest score_room")
    + _integers("rotations rounds axes buckets bucket_room nearest latent")
)
NO_WINDOW = 1 << 60

# A layer that caches latents, of `first` and `second` numbers, which `width` numbers have room for. Addresses of kernels:
# gather, products and turn make keys of latents, see core/attention/latent_kernel.py; scores of these, mix and join of latents
# in the place of values; expand adds the values of mixed latents, as `mix` of a matrix [width, D]. Of matrices of each KV head,
# of matrix_size bytes: keys, as `products` takes them, and values; means float32 [2 · G, D].
LATENT = np.dtype(_integers("first second width gather products turn scores mix join expand keys values matrix_size means"))

# Rows of `norms` for each layer.
BEFORE_ATTENTION, AFTER_ATTENTION, BEFORE_FFN, AFTER_FFN = range(4)
# What a thread counts: clock ticks by phase, the last reading of the clock, and the barriers it has passed.
NORM, ATTENTION, FFN, HEAD, CAPTURE, NOW, TURN = range(7)
COUNTS = 8  # as many as fill a cache line
PHASES = ("norm", "attention", "ffn", "head", "capture")

# What stays from pass to pass: see Table in core/decoder/fused/table.py. group, record_size: tokens and bytes of a coded block;
# coded_scores is 0 where the cache has none, and lay_queries where attention takes no tiles. most_lines, inner_room: of a row
# in any trained mixture, the most experts and activations. taken_width: the width where there is a mixture, else 0.
MODEL = np.dtype(
    _integers(
        "parts layers norms quantizer scores_kernel softmax mix_kernel join gate choose gather part_count layer_count width"
    )
    + _integers("query_heads head_size ffn_width qkv_width wide_width output_width logits_width most_groups head_part widest")
    + _integers("most_experts most_used most_lines inner_room taken_width latent_width")
    + _integers(
        "lay_queries open_tiles close_tiles tiles_config coded_scores coded_mix group record_size"
        " norm_before_attention norm_after_attention norm_before_ffn norm_after_ffn"
    )
    + [(name, np.float32) for name in ("eps", "scale", "cap", "residual")]
)

# One pass of T = rows tokens. Addresses of float32 arrays: x [T, C]; qkv [T, qkv_width]; queries [H · T, D], by group of
# MOST_ROWS rows, KV head, row, query head, or outside's attention [T, H · D]; of a group of rows, in the same order, mixed
# [chunks, H · MOST_ROWS, D] and stats [chunks, H · MOST_ROWS, 2], peaks and totals; wide [T, wide_width] and inner [T, F], or
# all lines of a trained mixture, expert by expert; output [T, output_width]; logits [head_rows, logits_width]; seen [captured
# layers, H, T, slots], weights of each chunk, and float16 shown, as large and zero at first, over all of them. capture int64
# [L]: which of these a layer fills, or −1. meeting int64 [1]; counts int64 [threads, COUNTS]; claims int64, see
# core/decoder/fused/sharing.py: one of each part, then of each layer for every row, and again for
# its scores.
# private [threads, private_size] bytes: what a thread keeps for itself. New keys go to slots slot, slot + 1, …; row r sees
# slots up to end + r. table int64 [slots]: where each slot is in the buffers, 0 where slot s is s there; starts int64 [chunks]:
# where the first slot of each chunk is, −1 where the others do not follow it there. left: where thread 0 left for Python, 2 ·
# layer at its attention and one more at its feed-forward, −1 before the first time. Of a cache with coded blocks, see Coded in
# core/cache/base.py: coded int64 [rows], the tokens of blocks that each row sees; stored; exact; and room for `blocks` of them.
# folded [threads, folded_size] bytes: room for their kernels. laid [threads, laid_size] bytes: queries as tiles. gathered
# [threads, gathered_size] bytes: keys or values of listed slots or of a chunk. routes float32 [T, most_experts + 1]: scores.
# chosen int64 [L, threads, chosen_size]: see Routes in core/decoder/fused/routes.py; shares float32 [L, threads, T ·
# most_lines]: the weights of the experts of each row. added [T · most_lines, output_width]: what an expert gives to a row.
PASS = np.dtype(
    _integers("x qkv queries mixed stats wide inner output logits seen shown capture meeting claims counts private rows")
    + _integers("head_rows threads private_size slots kv_bytes capacity slot end table starts position left")
    + _integers("coded stored exact blocks folded folded_size laid laid_size gathered gathered_size routes chosen")
    + _integers("chosen_size shares added")
)
