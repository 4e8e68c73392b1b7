"""Weight techniques: how the matrices are stored and multiplied."""

from dataclasses import dataclass

from core.technique import APPROXIMATE, LOSSLESS, Exactness, Technique, layers_option, option


@dataclass(frozen=True)
class CastOptions:
    dtype: str = option("float32", "number format of weights and activations", choices=("float32", "bfloat16", "float16"))


@dataclass(frozen=True)
class RtnOptions:
    bits: int = option(4, "bits a weight", low=2, high=8, unit="bit")
    group_size: int = option(64, "weights that share a scale; 0 is a whole row", low=0, high=65_536)
    layers: str = layers_option()


@dataclass(frozen=True)
class LayersOptions:
    layers: str = layers_option()


_INT8 = "Dettmers et al. 2022 (LLM.int8()), arXiv 2208.07339"
_NF4 = "Dettmers et al. 2023 (QLoRA), arXiv 2305.14314"

TECHNIQUES = (
    Technique(
        "weights",
        "native",
        "As the file stores them: its quantized blocks are multiplied without a second rounding.",
        LOSSLESS,
        "GGUF and safetensors formats",
        "core.weights.native:Native",
    ),
    Technique(
        "weights",
        "cast",
        "All weights dequantized and cast to one number format.",
        Exactness("exact_at", "dtype = float32"),
        "IEEE 754; bfloat16",
        "core.weights.cast:Cast",
        CastOptions,
    ),
    Technique(
        "weights",
        "rtn",
        "Round to nearest on a grid of 2 to 8 bits a group of weights.",
        APPROXIMATE,
        "Yao et al. 2022 (ZeroQuant), arXiv 2206.01861",
        "core.weights.rtn:Rtn",
        RtnOptions,
    ),
    Technique(
        "weights",
        "bnb_int8",
        "bitsandbytes LLM.int8(): vector-wise int8 with outlier columns in 16 bit.",
        APPROXIMATE,
        _INT8,
        "core.weights.bnb:Int8",
        LayersOptions,
    ),
    Technique(
        "weights",
        "bnb_nf4",
        "bitsandbytes NF4: 4-bit normal-float codes in blocks of 64.",
        APPROXIMATE,
        _NF4,
        "core.weights.bnb:Nf4",
        LayersOptions,
    ),
)
