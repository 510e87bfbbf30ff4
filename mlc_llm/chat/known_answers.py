"""The tokens of earlier answers, for conversations that come back as texts.

A client sends its whole conversation each time, and its answers as texts. To encode such a text may
give other tokens than were generated, and to read them as a prompt computes them otherwise than
they were: what the KV cache holds of them would not be found.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace

from mlc_llm.conversation import Message

_MOST = 4096
"""How many answers are known; those that were not asked for longest are forgotten first."""


class KnownAnswers:
    """Answers, each in the conversation that it answered. Any thread may use it.

    An answer is known by its text and all messages before it, so that conversations of others have
    no say in what a conversation's tokens are.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._tokens: dict[bytes, tuple[int, ...]] = {}
        self._lock = threading.Lock()

    def add(self, messages: Iterable[Message], answer: Message) -> None:
        """Take note of an answer.

        Args:
            messages: what it answered.
            answer: the answer; without ``token_ids`` there is nothing to know.
        """
        if answer.token_ids is None:
            return
        *_, key = _keys([*messages, answer])
        with self._lock:
            self._tokens.pop(key, None)
            self._tokens[key] = answer.token_ids
            while len(self._tokens) > self._most:
                del self._tokens[next(iter(self._tokens))]

    def recognise(self, messages: Iterable[Message]) -> tuple[Message, ...]:
        """The messages, with the tokens of the answers that are known."""
        messages = tuple(messages)
        with self._lock:
            return tuple(
                self._known(message, key)
                for message, key in zip(messages, _keys(messages), strict=True)
            )

    def _known(self, message: Message, key: bytes) -> Message:
        if message.token_ids is not None or (tokens := self._tokens.pop(key, None)) is None:
            return message
        self._tokens[key] = tokens  # The last one is the one that was asked for last.
        return replace(message, token_ids=tokens)


def _keys(messages: Iterable[Message]) -> Iterator[bytes]:
    """For each message a digest of what it and all messages before it say."""
    digest = hashlib.blake2b(digest_size=16)
    for message in messages:
        said = (message.role, message.content, sorted(message.more.items()))
        digest.update(repr(said).encode("utf-8", "surrogatepass"))
        yield digest.digest()
