"""The tokens of an answer, where a template shows the answer or a part of it."""

from __future__ import annotations

from collections.abc import Sequence

from mlc_llm.conversation.message import Message
from mlc_llm.tokenizer import Tokenizer

_FEW = 8
"""Tokens in which the first letter of a text is, even if it is given byte by byte."""


def spelled_part(
    tokenizer: Tokenizer, message: Message, start: int, stop: int
) -> tuple[int, ...] | None:
    """The tokens that spell a part of a message.

    Args:
        tokenizer: the model's tokenizer.
        message: an answer.
        start: where in its content the part begins.
        stop: where it ends.

    Returns:
        The tokens; None where they are not known, or where the part begins or ends within one.
    """
    ids = message.token_ids
    if ids is None or (start, stop) == (0, len(message.content)):
        return ids
    stream = tokenizer.stream()
    ends = [0]
    for token_id in ids:
        ends.append(ends[-1] + len(stream.push(token_id)))
    ends[-1] = len(message.content)
    if start not in ends or stop not in ends:
        return None
    last = len(ids) if stop == len(message.content) else ends.index(stop)
    return ids[ends.index(start) : last]


def takes_space(tokenizer: Tokenizer, ids: Sequence[int]) -> bool:
    """Whether tokens that begin an answer hold the space before it, which is not shown there."""
    first = list(ids[:_FEW])
    return tokenizer.decode(first, continues=True) == " " + tokenizer.decode(first)
