"""From a request to the exact token ids that the model reads, refused when they cannot be run."""

from __future__ import annotations

from core.errors import BadInput
from core.events import RunRequest, Token
from core.models.info import ModelInfo
from core.models.limits import most_tokens
from core.models.tokenizer import Tokenizer


def prompt_ids(request: RunRequest, tokenizer: Tokenizer, info: ModelInfo) -> tuple[int, ...]:
    """The prompt's token ids. BadInput: an empty prompt, one that fills the context, a cache too small for the run."""
    ids = request.prompt_tokens or _encoded(request, tokenizer)
    _refuse_strangers(ids, info)
    if len(ids) + 1 > most_tokens(request.config, info):
        raise BadInput(
            f"the prompt has {len(ids)} tokens and the context of {info.name} is {info.context}, "
            f"so at most {info.context - 1} leave room for a new one; shorten the prompt, or forget its "
            "beginning with cache.name=sinks"
        )
    _refuse_small_buffer(request, len(ids), info)
    return tuple(ids)


def prompt_tokens(ids: tuple[int, ...], tokenizer: Tokenizer) -> tuple[Token, ...]:
    """The prompt as events show it."""
    return tuple(Token(index, token, tokenizer.piece(token), "prompt") for index, token in enumerate(ids))


def _encoded(request: RunRequest, tokenizer: Tokenizer) -> tuple[int, ...]:
    ids = tokenizer.prompt_ids(request.prompt, request.chat) if request.prompt else []
    if not ids:
        raise BadInput("the prompt is empty; write at least one character")
    return tuple(ids)


def _refuse_strangers(ids: tuple[int, ...], info: ModelInfo) -> None:
    strange = next((token for token in ids if not 0 <= token < info.vocabulary), None)
    if strange is not None:
        raise BadInput(f"the prompt holds the token id {strange}, and {info.name} knows the ids 0 to {info.vocabulary - 1}")


def _refuse_small_buffer(request: RunRequest, prompt: int, info: ModelInfo) -> None:
    config = request.config
    needed = min(info.context, prompt + config.run.max_new_tokens)
    if config.cache.name == "static" and 0 < config.cache.options.capacity < needed:
        raise BadInput(
            f"cache.capacity={config.cache.options.capacity} is too small: {prompt} prompt tokens and "
            f"{needed - prompt} new ones need {needed}; set it to at least {needed}, or to 0"
        )
