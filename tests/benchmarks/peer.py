"""transformers' own `generate` on the default model, in a process of its own: one line in, tokens a second out."""

import sys
from pathlib import Path
from time import perf_counter


def main(file: Path, prompt: str, tokens: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16)
    inputs = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)(prompt, return_tensors="pt")
    for _ in sys.stdin:
        began = perf_counter()
        model.generate(**inputs, min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False)
        print(tokens / (perf_counter() - began), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
