"""Measuring a model's speed on raw text."""

from __future__ import annotations

from mlc_llm.chat.loading import LoadedChat
from mlc_llm.chat.settings import ChatSettings
from mlc_llm.config import GenerationConfig
from mlc_llm.errors import ConfigError, PromptTooLongError
from mlc_llm.runtime.answer import Ending
from mlc_llm.runtime.request import Request
from mlc_llm.shown import shown
from mlc_llm.tokenizer import PromptTokens

_WARM_UP_TOKENS = 2


def benchmark(chat: LoadedChat, settings: ChatSettings, prompt: str, length: int) -> str:
    """Continue a text by exactly ``length`` tokens from an empty KV cache, after one warm-up.

    Raises:
        PromptTooLongError: prompt and answer do not fit into the window.
        ConfigError: the prompt is empty, or the length is less than 1.
    """
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise ConfigError(f"generate_length must be a whole number from 1, not {shown(length)}.")
    bos = chat.plan.tokenizer.bos_id
    prompt_ids = [*([] if bos is None else [bos]), *chat.plan.tokenizer.encode(prompt)]
    if not prompt_ids:
        raise ConfigError("The prompt is empty: it has no tokens.", code="prompt-empty")
    window = chat.model.window.size
    # The last token is not fed back to the model.
    if len(prompt_ids) + length - 1 > window:
        raise PromptTooLongError(
            f"The prompt's {len(prompt_ids)} tokens and {shown(length)} more do not fit into the "
            f"context window of {window}."
        )
    _run(chat, settings, prompt_ids, min(length, _WARM_UP_TOKENS))
    chat.engine.call(lambda stop: chat.model.reset())
    chat.engine.call(lambda stop: chat.metrics.reset())
    return _run(chat, settings, prompt_ids, length)


def _run(chat: LoadedChat, settings: ChatSettings, prompt_ids: list[int], length: int) -> str:
    request = Request(
        PromptTokens(prompt_ids),
        Ending(length),
        settings.sampling(GenerationConfig()),
        continues=True,
    )
    return "".join(delta.text for delta in chat.stream(request))
