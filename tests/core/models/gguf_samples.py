"""Small GGUF files for tests: a one-layer llama with a byte-level tokenizer, in any tensor type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from tiny_models import finish

from core.models.tokenizer import BYTE_ALPHABET

WIDTH, FFN, HEADS, KV_HEADS, VOCABULARY = 256, 512, 4, 2, 300
SHAPES = {
    "token_embd": (VOCABULARY, WIDTH),
    "output_norm": (WIDTH,),
    "blk.0.attn_norm": (WIDTH,),
    "blk.0.ffn_norm": (WIDTH,),
    "blk.0.attn_q": (WIDTH, WIDTH),
    "blk.0.attn_k": (WIDTH // 2, WIDTH),
    "blk.0.attn_v": (WIDTH // 2, WIDTH),
    "blk.0.attn_output": (WIDTH, WIDTH),
    "blk.0.ffn_gate": (FFN, WIDTH),
    "blk.0.ffn_up": (FFN, WIDTH),
    "blk.0.ffn_down": (WIDTH, FFN),
}
TOKENS = [*BYTE_ALPHABET, "<|end|>", "<|begin|>", "he", "ll", "hell", "hello"]


def write_sample(path: Path, kind: GGMLQuantizationType = GGMLQuantizationType.F32, **metadata: Any) -> dict[str, np.ndarray]:
    """Write a file whose matrices are of type `kind`; returns the bytes [rows, bytes a row] of each matrix."""
    writer = sample_writer(path, **metadata)
    random, written = np.random.default_rng(0), {}
    for name, shape in SHAPES.items():
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", random.normal(size=shape).astype(np.float32))
        else:
            written[name] = blocks(random, kind, shape)
            writer.add_tensor(f"{name}.weight", written[name], raw_dtype=kind)
    finish(writer)
    return written


def sample_writer(path: Path, **metadata: Any) -> GGUFWriter:
    """A writer with the sizes and tokenizer of the sample; `metadata` adds or replaces uint32 keys."""
    writer = GGUFWriter(path, "llama")
    sizes = {
        "llama.block_count": 1, "llama.context_length": 128, "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": FFN, "llama.attention.head_count": HEADS, "llama.attention.head_count_kv": KV_HEADS,
    }  # fmt: skip
    for key, value in {**sizes, **metadata}.items():
        writer.add_uint32(key, value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([1] * 256 + [3, 3] + [1] * 4)
    writer.add_token_merges(["h e", "l l", "he ll", "hell o"])
    writer.add_eos_token_id(256)
    writer.add_bos_token_id(257)
    return writer


def blocks(random: np.random.Generator, kind: GGMLQuantizationType, shape: tuple[int, int]) -> np.ndarray:
    """Random bytes of a matrix of type `kind`, with finite scales and every code possible."""
    from gguf import GGML_QUANT_SIZES

    values, size = GGML_QUANT_SIZES[kind]
    if values == 1:
        plain = random.normal(size=shape).astype(np.float32)
        return {
            "F32": plain,
            "F16": plain.astype(np.float16),
            "BF16": (plain.view(np.uint32) >> 16).astype(np.uint16),
        }[kind.name].view(np.uint8)
    data = random.integers(0, 256, size=(shape[0] * shape[1] // values, size), dtype=np.uint8)
    for start in _SCALES[kind.name]:
        scales = random.normal(size=len(data)).astype(np.float16)
        data[:, start : start + 2] = scales[:, None].view(np.uint8)
    return data.reshape(shape[0], -1)


# Where each type keeps its float16 factors.
_SCALES = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q4_K": (0, 2), "Q5_K": (0, 2),
    "Q6_K": (208,), "Q3_K": (108,),
}  # fmt: skip
