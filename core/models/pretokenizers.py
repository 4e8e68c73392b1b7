"""How byte-level vocabularies cut text before their merges, by the name a GGUF file gives (`tokenizer.ggml.pre`)."""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Regex, pre_tokenizers

from core.errors import BadInput

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _TAIL
_QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _TAIL
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SLASH_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = r"[^\r\n\p{L}\p{N}]?"
_TEKKEN = rf"{_CASED}{_UPPER}*{_LOWER}+|{_CASED}{_UPPER}+{_LOWER}*|\p{{N}}{_SLASH_TAIL}"
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_GPT4O = rf"{_CASED}{_UPPER}*{_LOWER}+{_ENDING}|{_CASED}{_UPPER}+{_LOWER}*{_ENDING}|\p{{N}}{{1,3}}{_SLASH_TAIL}"
_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    r"[一-龥\u3040-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)


@dataclass(frozen=True)
class PreTokenizer:
    """splits: patterns applied one after another, each within the pieces of the one before.

    whole_words: a piece that is a token by itself skips the merges. begins: BOS is added unless the file says otherwise.
    """

    splits: tuple[str, ...]
    whole_words: bool = False
    begins: bool = False

    def build(self) -> pre_tokenizers.PreTokenizer:
        splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in self.splits]
        return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


_KINDS: tuple[tuple[PreTokenizer, str], ...] = (
    (PreTokenizer((_GPT2,)), "gpt-2 gpt2 phi-2 olmo mpt jais trillion granite-docling"),
    (PreTokenizer((r"\p{N}", _GPT2)), "smollm starcoder refact command-r codeshell exaone minerva-7b"),
    (PreTokenizer((_LLAMA3,), True, True), "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2"),
    (PreTokenizer((_LLAMA3,)), "dbrx smaug-bpe chatglm-bpe glm4"),
    (PreTokenizer((_QWEN2,)), "qwen2 deepseek-r1-qwen stablelm2 megrez hunyuan kormo"),
    (PreTokenizer((_TEKKEN,), True, True), "tekken"),
    (PreTokenizer((_GPT4O,)), "gpt-4o llama4 kanana2"),
    (PreTokenizer(_DEEPSEEK3), "deepseek-v3 hunyuan-dense"),
)
PRE_TOKENIZERS = {name: kind for kind, names in _KINDS for name in names.split()}


def pre_tokenizer(name: str) -> PreTokenizer:
    """The pre-tokenizer called `name`; a wrong one would quietly give other token ids, so BadInput when it is unknown."""
    if name not in PRE_TOKENIZERS:
        raise BadInput(f"the pre-tokenizer {name!r} of this GGUF file is not known here; known are {', '.join(PRE_TOKENIZERS)}")
    return PRE_TOKENIZERS[name]
