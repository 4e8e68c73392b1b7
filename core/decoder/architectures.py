"""Which architectures the local decoder runs. Free of torch, so that a model can be described before it is loaded."""

# Hugging Face `model_type`s. gemma3_text is also what a gemma3 checkpoint with a vision part is read as.
LOCAL_ARCHITECTURES: frozenset[str] = frozenset(
    {
        "gemma2", "gemma3_text", "granite", "llama", "mistral", "mixtral", "olmo2", "olmoe",
        "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3",
    }
)  # fmt: skip
