"""A model's tokens as llguidance sees them: the bytes of each.

They come from our own tokenizers and not from ``tokenizer.json``, which says less: the files beside
it add tokens and mark special ones, and a folder may have ``tokenizer.model`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mlc_llm.runtime.constraint import Words
from mlc_llm.tokenizer import Tokenizer

_END = b"the end of the answer"
"""The name of llguidance's own token; with its spaces no grammar can write it."""

NONE = -1
"""What stands in for a token for which no other one can."""


class Vocabulary:
    """The tokens of a model.

    After the model's tokens llguidance has one of its own, which ends an answer. Which of the
    model's tokens end it is another question, and each request's own.

    Of tokens with the same bytes, such as SentencePiece's ``!`` and ``<0x21>``, llguidance allows
    one only. Here that one stands in for all of them.

    Args:
        tokenizer: the model's.
        size: the rows of the model's embedding table. Ids that the tokenizer lacks are padding,
            which is never allowed.

    Raises:
        TokenizerError: what the tokenizer's tokens stand for depends on those around them.
    """

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        from llguidance import LLTokenizer, TokenizerWrapper

        self.size = size
        self._tokenizer = tokenizer
        texts = [tokenizer.token_bytes(token) or b"" for token in range(size)]
        self._by_text = {text: token for token, text in enumerate(texts) if text}
        self._alike = {
            token: other
            for token, text in enumerate(texts)
            if text and (other := self._by_text[text]) != token
        }
        special = {token: text for text, token in tokenizer.special_ids.items() if token < size}
        self.plain = frozenset(self._by_text.values()).union(self._alike)
        known = [b"" if token in self._alike else text for token, text in enumerate(texts)]
        for token, text in special.items():
            known[token] = text.encode("utf-8")
        tokens = _Tokens([*known, _END], [*special, size], tokenizer)
        self.trie = LLTokenizer(TokenizerWrapper(tokens))

    @property
    def words(self) -> int:
        """The words of a set of llguidance's tokens, one more than the model has."""
        return self.size // 32 + 1

    @cached_property
    def _first(self) -> dict[int, int]:
        """The tokens whose leading space is left out where a text begins, with their stand-ins."""
        read = self._tokenizer.token_bytes
        shown = {token: read(token, first=True) or b"" for token in self.plain}
        return {
            token: self._by_text.get(text, NONE)
            for token, text in shown.items()
            if text != read(token)
        }

    def stand_in(self, token: int, *, first: bool) -> int:
        """The token that llguidance has for the bytes of a token, or :data:`NONE`.

        Args:
            token: a token of the model.
            first: whether the text begins with it.
        """
        if first:
            token = self._first.get(token, token)
        return self._alike.get(token, token)

    def spread(self, words: Words, *, first: bool) -> Words:
        """Allow all the tokens for which an allowed one stands in.

        Args:
            words: the tokens that llguidance allows; they may be changed.
            first: whether the text begins with the next one.
        """
        if not self._alike and not (first and self._first):
            return words
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")
        _copy(bits, self._alike)
        if first:
            _copy(bits, self._first)
        return np.packbits(bits, bitorder="little").view(np.uint32)


class _Tokens:
    """What llguidance asks of a tokenizer.

    Args:
        tokens: the bytes of each token; the last one ends an answer.
        special: the ids of those without text.
        tokenizer: makes tokens of a text that can only be this one.
    """

    bos_token_id = None

    def __init__(
        self, tokens: Sequence[bytes], special: Sequence[int], tokenizer: Tokenizer
    ) -> None:
        self.tokens, self.special_token_ids = tokens, special
        self.eos_token_id = len(tokens) - 1
        self._tokenizer = tokenizer

    def __call__(self, text: str) -> list[int]:
        tokens = self._tokenizer.encode(text, continues=True)
        # A model may lack some of its tokenizer's.
        return tokens if max(tokens, default=0) < self.eos_token_id else []


def _copy(bits: npt.NDArray[np.uint8], stand_ins: Mapping[int, int]) -> None:
    """Give each token the bit of its stand-in, and 0 to those that have none."""
    tokens = np.fromiter(stand_ins.keys(), np.intp, len(stand_ins))
    others = np.fromiter(stand_ins.values(), np.intp, len(stand_ins))
    bits[tokens] = np.where(others == NONE, 0, bits[others])
