"""Log-probabilities in the two forms of OpenAI's API."""

from __future__ import annotations

from collections.abc import Sequence

from mlc_llm.errors import TokenizerError
from mlc_llm.protocol import (
    ChatCompletionLogprobs,
    ChatCompletionTokenLogprob,
    CompletionLogprobs,
    TopLogprob,
)
from mlc_llm.runtime.logprobs import TokenLogprob
from mlc_llm.tokenizer import Tokenizer
from mlc_llm.tokenizer.detokenizer import REPLACEMENT


class TokenNames:
    """The texts of tokens by which replies name them.

    Args:
        tokenizer: the model's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = {token_id: text for text, token_id in tokenizer.special_ids.items()}

    def name(self, token: TokenLogprob) -> str:
        """A token's text, or a control token's name, which has no text."""
        return token.text or self._special.get(token.token_id, "")

    def utf8(self, token: TokenLogprob) -> list[int] | None:
        """A token's bytes, perhaps of a part of a character; None for a control token, and for a
        part of a character where the tokenizer knows no bytes of single tokens."""
        if not token.text:
            return None
        if REPLACEMENT not in token.text:
            return list(token.text.encode())
        try:
            known = self._tokenizer.token_bytes(token.token_id)
        except TokenizerError:
            return None
        return None if known is None else list(known)


def chat_logprobs(tokens: Sequence[TokenLogprob], names: TokenNames) -> ChatCompletionLogprobs:
    """The form that answers to conversations have."""
    content = [
        ChatCompletionTokenLogprob(
            token=names.name(token),
            bytes=names.utf8(token),
            logprob=token.logprob,
            top_logprobs=[
                TopLogprob(token=names.name(top), bytes=names.utf8(top), logprob=top.logprob)
                for top in token.top
            ],
        )
        for token in tokens
    ]
    return ChatCompletionLogprobs(content=content, refusal=None)


def completion_logprobs(
    tokens: Sequence[TokenLogprob], offsets: Sequence[int], names: TokenNames
) -> CompletionLogprobs:
    """The form that answers to raw text have.

    Args:
        tokens: the tokens.
        offsets: where each begins in the answer's text.
        names: names them.
    """
    return CompletionLogprobs(
        tokens=[names.name(token) for token in tokens],
        token_logprobs=[token.logprob for token in tokens],
        top_logprobs=[_by_name(token, names) for token in tokens],
        text_offset=list(offsets),
    )


def _by_name(token: TokenLogprob, names: TokenNames) -> dict[str, float]:
    """The likeliest tokens and the chosen one; of those of one name, the likeliest."""
    by_name: dict[str, float] = {}
    for one in (*token.top, token):
        by_name.setdefault(names.name(one), one.logprob)
    return by_name
