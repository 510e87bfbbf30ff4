"""What is known of the messages of a client that sends its whole conversation each time.

Clients keep texts alone. The tokens that an answer was generated as are known here, and so are the
turns that the window had no room for: to encode the one again, or to choose the other again, would
have the model read again what its KV cache holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mlc_llm.conversation import Message
from mlc_llm.conversation.message import SYSTEM

Messages = tuple[Message, ...]


def adopt(given: Iterable[Message], known: Iterable[Message]) -> Messages:
    """Give answers that come as text the tokens that they were generated as.

    Args:
        given: messages, some of them answers without ``token_ids``.
        known: messages with them. Each serves one answer of the same role and content; the last
            ones are matched first, since older ones may have been dropped.
    """
    tokens: dict[tuple[str, str], list[tuple[int, ...]]] = {}
    for message in known:
        if message.token_ids is not None:
            tokens.setdefault(_saying(message), []).append(message.token_ids)
    adopted = []
    for message in reversed(tuple(given)):
        same = tokens.get(_saying(message))
        if message.token_ids is None and same:
            message = replace(message, token_ids=same.pop())
        adopted.append(message)
    return tuple(reversed(adopted))


def without_dropped(
    given: Messages, dropped: Messages, history: Messages
) -> tuple[Messages, Messages]:
    """Leave out again what was dropped of a conversation that goes on.

    Args:
        given: the whole conversation.
        dropped: turns that stood before the history and were dropped.
        history: what was left; system messages stay wherever they stand.

    Returns:
        The turns that are left out, and the other messages; none and all of them where the
        conversation is another one.
    """
    positions = [index for index, message in enumerate(given) if message.role != SYSTEM]
    out = set(positions[: len(dropped)])
    left = tuple(message for index, message in enumerate(given) if index not in out)
    first = [given[index] for index in sorted(out)]
    if _begin_alike(first, dropped) and _begin_alike(left, history):
        return dropped, left
    return (), given


def turns_before(messages: Messages, kept: Messages) -> Messages:
    """The turns that are missing from the beginning of what was kept of a conversation."""
    turns = [message for message in messages if message.role != SYSTEM]
    count = sum(message.role != SYSTEM for message in kept)
    return tuple(turns[: len(turns) - count])


def _begin_alike(messages: Sequence[Message], wanted: Sequence[Message]) -> bool:
    """Whether messages begin with those that are wanted, by what they say."""
    return len(messages) >= len(wanted) and all(
        _saying(one) == _saying(other) for one, other in zip(messages, wanted, strict=False)
    )


def _saying(message: Message) -> tuple[str, str]:
    return message.role, message.content
