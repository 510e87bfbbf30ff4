"""Decoding a stream of tokens: each piece of text as soon as it is certain, and never sooner.

One token may hold a part of a character. What is incomplete is held back until the tokens that
complete it arrive, or until the end, where it becomes U+FFFD as in any lossy UTF-8 decoding.
"""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from collections.abc import Callable

PieceLookup = Callable[[int], bytes | None]
"""The UTF-8 bytes (perhaps of a part of a character) of a token; None when it has no text."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Detokenizer(ABC):
    """Decodes tokens one at a time; the pieces together are the whole text."""

    @abstractmethod
    def push(self, token_id: int) -> str:
        """Take one token and return the text that is now certain; often empty."""

    @abstractmethod
    def finish(self) -> str:
        """Return what was held back. The end: nothing may be pushed afterwards."""


class ByteDetokenizer(Detokenizer):
    """For tokenizers whose tokens each stand for fixed bytes; constant time per token.

    Args:
        piece: a token's bytes.
        first_piece: a token's bytes where text begins.
        first_until_text: whether ``first_piece`` holds until there is some text, rather than for
            one token.
    """

    def __init__(
        self, piece: PieceLookup, first_piece: PieceLookup, *, first_until_text: bool = False
    ) -> None:
        self._piece = piece
        self._lookup = first_piece
        self._first_until_text = first_until_text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        piece = self._lookup(token_id)
        if piece is None:
            return ""
        if piece or not self._first_until_text:
            self._lookup = self._piece
        return self._decoder.decode(piece)

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class WindowDetokenizer(Detokenizer):
    """For any other tokenizer: decodes the last few tokens again, with those before as context.

    The text of new tokens is what decoding them together with the preceding, already shown ones
    adds to decoding those alone. The window moves on whenever text is shown, so it stays small.

    Args:
        decode: decodes a list of ids.
    """

    MOST_HELD = 16
    """Tokens after which what is held is taken as it is; a character never needs that many."""

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._shown: list[int] = []
        self._held: list[int] = []

    def push(self, token_id: int) -> str:
        self._held.append(token_id)
        text = self._new_text()
        uncertain = not text or text.endswith(REPLACEMENT)
        return "" if uncertain and len(self._held) < self.MOST_HELD else self._show(text)

    def finish(self) -> str:
        return self._show(self._new_text()) if self._held else ""

    def _new_text(self) -> str:
        before = self._decode(self._shown)
        return self._decode(self._shown + self._held)[len(before) :]

    def _show(self, text: str) -> str:
        self._shown, self._held = self._held, []
        return text
