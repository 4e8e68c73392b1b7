"""What is known of a model before it is loaded. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelInfo:
    """Shape and size of a checkpoint, read from its headers alone.

    name: shown to a person. path: absolute. format: `gguf` or `safetensors`.
    architecture: transformers' model_type (`llama`, `qwen2`, …). engine: which engine can run it.
    tensor_bytes: stored type (`Q4_1`, `BF16`, …) to bytes in the file. matrix_bytes: the same, of the matrices inside the
    layers alone, which weight techniques change. embedding_bytes: of the token embedding, in the file.
    sliding_windows: of each layer, 0 where it sees everything; empty where none slides, or it is not known.
    """

    name: str
    path: str
    format: str
    architecture: str
    engine: str
    layers: int
    width: int
    query_heads: int
    kv_heads: int
    head_size: int
    ffn_width: int
    vocabulary: int
    context: int
    parameters: int
    tensor_bytes: dict[str, int] = field(default_factory=dict)
    matrix_bytes: dict[str, int] = field(default_factory=dict)
    embedding_bytes: int = 0
    tied_head: bool = False
    experts: int = 0
    experts_used: int = 0
    sliding_window: int = 0
    sliding_windows: tuple[int, ...] = ()
    chat_template: str | None = None

    @property
    def weight_bytes(self) -> int:
        return sum(self.tensor_bytes.values())

    def kv_bytes_per_token(self, bytes_per_value: int) -> int:
        """Bytes of keys and values that one token adds over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_size * bytes_per_value
