"""Whether tokens are the tokens of a text."""

from __future__ import annotations

from collections.abc import Sequence

from mlc_llm.tokenizer import Tokenizer


def spelling(
    tokenizer: Tokenizer, token_ids: Sequence[int], content: str
) -> tuple[int, ...] | None:
    """The first tokens, as many as spell ``content``; None when they do not."""
    stream = tokenizer.stream()
    position = 0
    for count, token_id in enumerate(token_ids):
        if position == len(content):
            return tuple(token_ids[:count])
        delta = stream.push(token_id)
        if not content.startswith(delta, position):
            return None
        position += len(delta)
    return tuple(token_ids) if content[position:] == stream.finish() else None


def is_spelling(
    tokenizer: Tokenizer, token_ids: Sequence[int], content: str, vocab_size: int
) -> bool:
    """Whether tokens of unknown origin say what ``content`` says, and no more.

    Control tokens have no text, so that the text alone would not show them: each token must have
    text of its own.

    Args:
        tokenizer: the model's tokenizer.
        token_ids: the tokens.
        content: what they are said to spell.
        vocab_size: tokens that the model has.
    """
    most = min(tokenizer.vocab_size, vocab_size)
    if not all(0 <= token_id < most for token_id in token_ids):
        return False
    if not all(tokenizer.decode([token_id], continues=True) for token_id in set(token_ids)):
        return False
    return spelling(tokenizer, token_ids, content) == tuple(token_ids)
