"""The types of a GGUF file, by the codes that stand for them: of metadata, and of tensors with their blocks.

Source: the GGUF specification, github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

from typing import NamedTuple


class Blocks(NamedTuple):
    """How a tensor type stores its values: `values` of them in a block of `nbytes`."""

    name: str
    values: int
    nbytes: int


TENSORS = {
    0: Blocks("F32", 1, 4), 1: Blocks("F16", 1, 2), 30: Blocks("BF16", 1, 2), 28: Blocks("F64", 1, 8),
    24: Blocks("I8", 1, 1), 25: Blocks("I16", 1, 2), 26: Blocks("I32", 1, 4), 27: Blocks("I64", 1, 8),
    2: Blocks("Q4_0", 32, 18), 3: Blocks("Q4_1", 32, 20), 6: Blocks("Q5_0", 32, 22), 7: Blocks("Q5_1", 32, 24),
    8: Blocks("Q8_0", 32, 34), 9: Blocks("Q8_1", 32, 40),
    10: Blocks("Q2_K", 256, 84), 11: Blocks("Q3_K", 256, 110), 12: Blocks("Q4_K", 256, 144), 13: Blocks("Q5_K", 256, 176),
    14: Blocks("Q6_K", 256, 210), 15: Blocks("Q8_K", 256, 292),
    16: Blocks("IQ2_XXS", 256, 66), 17: Blocks("IQ2_XS", 256, 74), 22: Blocks("IQ2_S", 256, 82),
    18: Blocks("IQ3_XXS", 256, 98), 21: Blocks("IQ3_S", 256, 110), 19: Blocks("IQ1_S", 256, 50), 29: Blocks("IQ1_M", 256, 56),
    20: Blocks("IQ4_NL", 32, 18), 23: Blocks("IQ4_XS", 256, 136), 34: Blocks("TQ1_0", 256, 54), 35: Blocks("TQ2_0", 256, 66),
    39: Blocks("MXFP4", 32, 17), 40: Blocks("NVFP4", 64, 36), 41: Blocks("Q1_0", 128, 18),
}  # fmt: skip

STRING, ARRAY = 8, 9
# Numbers of metadata, as struct writes them: integers of 8 to 32 bits, float32, bool, integers of 64 bits, float64.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
