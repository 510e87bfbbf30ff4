"""What the rest of the program knows of a tokenizer."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType

from mlc_llm.errors import TokenizerError
from mlc_llm.shown import shown
from mlc_llm.tokenizer.detokenizer import Detokenizer

_MOST_SHOWN = 5
"""Tokens that a message lists."""


class Tokenizer(ABC):
    """Text to token ids and back.

    Attributes:
        vocab_size: one more than the largest token id.
        bos_id: the token that begins a sequence, or None.
        eos_id: the token that ends a sequence, or None.
        end_ids: every token that ends an answer, by any of the model's files.
        unk_id: the token that stands for what the vocabulary lacks, or None.
        special_ids: the ids of the special (control) tokens by their text. They have a meaning
            for the model beyond their text, are never made from plain text, and decode to nothing.
        added_ids: the ids of the tokens that were added to the trained vocabulary and are read in
            plain text, such as runs of spaces, by their text.
        strips: the special tokens, by id, that take the white space around them in a prompt:
            whether that before them, and whether that after them (``lstrip``, ``rstrip``).
        prefix_after_special: whether text after a special token is encoded as text at the start
            is, with a dummy prefix space where the tokenizer has one.
    """

    vocab_size: int
    bos_id: int | None
    eos_id: int | None
    end_ids: frozenset[int] = frozenset()
    unk_id: int | None
    special_ids: Mapping[str, int]
    added_ids: Mapping[str, int] = MappingProxyType({})
    strips: Mapping[int, tuple[bool, bool]] = MappingProxyType({})
    prefix_after_special: bool

    @abstractmethod
    def _encode(self, text: str, continues: bool) -> list[int]:
        """Encode valid, non-empty text without looking for special tokens in it."""

    @abstractmethod
    def stream(self, *, continues: bool = False) -> Detokenizer:
        """Begin to decode token ids one at a time.

        Args:
            continues: whether the tokens follow other text, so that a leading space stays.
        """

    def token_bytes(self, token_id: int, *, first: bool = False) -> bytes | None:
        """The UTF-8 bytes that a token adds to a text, perhaps of a part of a character.

        Args:
            token_id: the token.
            first: whether the text begins with it, so that a dummy prefix space is left out.

        Returns:
            None for special tokens, and for ids that there are not.

        Raises:
            TokenizerError: what this tokenizer's tokens stand for depends on those around them.
        """
        raise TokenizerError(
            "This tokenizer's tokens stand for no fixed bytes. Only byte-level BPE and "
            "SentencePiece's kinds of tokenizers can write an answer that must match a grammar.",
            code="tokenizer-without-bytes",
        )

    def encode(
        self, text: str, *, continues: bool = False, without: Iterable[str] = ()
    ) -> list[int]:
        """Encode plain text; no BOS or EOS is added.

        A special token's text, such as ``</s>``, is encoded as the characters it is written with.

        Args:
            text: any text.
            continues: whether the text follows other tokens, so that no dummy prefix space is
                added and a leading space stays.
            without: texts of :attr:`added_ids` that count as special tokens, too.

        Raises:
            TokenizerError: the text is not a string, holds a lone surrogate, which is not a
                character, or is one that the tokenizer fails on.
        """
        if not isinstance(text, str):
            raise TokenizerError(
                f"Only text can be encoded, not {shown(text)}.", code="text-invalid"
            )
        if not text:
            return []
        _check_characters(text)
        ids = self._encode(text, continues)
        barred = self._control_ids.union(self.added_ids[token] for token in without)
        if barred.isdisjoint(ids):
            return ids
        return self._encode_apart(text, continues, [*self.special_ids, *without], barred)

    def decode(self, ids: Iterable[int], *, continues: bool = False) -> str:
        """Decode token ids; what :meth:`stream` gives for them in pieces, in one.

        Special tokens, and ids beyond the vocabulary, give no text. Bytes that are not valid UTF-8
        become U+FFFD.
        """
        stream = self.stream(continues=continues)
        pieces = [stream.push(token_id) for token_id in ids]
        return "".join(pieces) + stream.finish()

    @cached_property
    def _control_ids(self) -> frozenset[int]:
        """The ids that plain text must never give; the unknown token is what it may give."""
        return frozenset(self.special_ids.values()) - {self.unk_id}

    def _encode_apart(
        self, text: str, continues: bool, texts: Iterable[str], barred: frozenset[int]
    ) -> list[int]:
        """Encode text in which the model's own vocabulary finds control tokens' texts.

        Some models (Unigram, or BPE that takes whole words first) match any entry of their
        vocabulary. Each control token's text is cut after its first character; where a normalizer
        makes such a text of other characters, all of them are encoded one by one.

        Args:
            text: the text.
            continues: as :meth:`encode` takes it.
            texts: the control tokens' texts.
            barred: their ids.
        """
        pattern = "|".join(map(re.escape, sorted(texts, key=len, reverse=True)))
        cuts = [match.start() + 1 for match in re.finditer(f"(?={pattern})", text)]
        ids: list[int] = []
        for start, end in pairwise([0, *cuts, len(text)]):
            piece = self._encode(text[start:end], continues or start > 0) if end > start else []
            if not barred.isdisjoint(piece):
                singly = range(start, end)
                letters = [self._encode(text[at], continues or at > 0) for at in singly]
                piece = [token_id for letter in letters for token_id in letter]
            ids += piece
        if found := barred.intersection(ids):
            raise TokenizerError(
                f"This tokenizer makes the special tokens {sorted(found)} from plain text.",
                code="tokenizer-unsafe",
            )
        return ids


def beyond_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> str | None:
    """What to tell of the tokens that a model has no rows for; None where it has all.

    Models with more rows than there are tokens (padding) are usual, and some have fewer: Gemma 3's
    text models come with a tokenizer that has one more token, for images.

    Args:
        tokenizer: the model's.
        vocab_size: rows of the model's embedding table.
    """
    missing = tokenizer.vocab_size - vocab_size
    if missing <= 0:
        return None
    texts = {i: text for text, i in {**tokenizer.added_ids, **tokenizer.special_ids}.items()}
    first = range(vocab_size, tokenizer.vocab_size)[:_MOST_SHOWN]
    tokens = ", ".join(f"{i} ({shown(texts[i])})" if i in texts else str(i) for i in first)
    return (
        f"The tokenizer has {tokenizer.vocab_size} tokens, and the model's vocabulary "
        f"{vocab_size}. The model can neither read nor write the last {missing}: {tokens}"
        f"{', ...' if missing > _MOST_SHOWN else ''}"
    )


def _check_characters(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"The text holds U+{ord(text[error.start]):04X} at position {error.start}: half of a "
            "surrogate pair, which is not a character. Decode the text's source with the encoding "
            "it was written in.",
            code="text-invalid",
        ) from None
