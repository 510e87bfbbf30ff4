"""Tokenizers given as ``tokenizer.json``, run by the ``tokenizers`` library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from mlc_llm.errors import TokenizerError
from mlc_llm.files import json_in_utf8, parse_json_object, read_file
from mlc_llm.tokenizer.additions import complete
from mlc_llm.tokenizer.base import Tokenizer
from mlc_llm.tokenizer.control import end_ids
from mlc_llm.tokenizer.detokenizer import ByteDetokenizer, Detokenizer, WindowDetokenizer
from mlc_llm.tokenizer.pieces import piece_rule
from mlc_llm.tokenizer.prefix_space import (
    prefixes_every_part,
    prefixing_parts,
    remove_prefix_space,
    set_prefix_space,
)
from mlc_llm.tokenizer.special import SpecialTokens
from mlc_llm.tokenizer.split_patterns import refuse_slow_patterns


class HuggingFaceTokenizer(Tokenizer):
    """A ``tokenizer.json``.

    Tokens that the file marks as special are not recognised in text; added tokens that are not
    special, such as runs of spaces, are, as they are a part of how the model reads text.

    The files beside it may add tokens, and know of control tokens that this one does not mark.

    Args:
        path: the ``tokenizer.json``.
        special: what the files beside it say.

    Raises:
        TokenizerError: the file is malformed, a Git-LFS pointer, or contradicts those beside it.
    """

    def __init__(self, path: Path, special: SpecialTokens) -> None:
        self._path, self._special = path, special
        raw = read_file(path, TokenizerError)
        data = parse_json_object(raw, path, TokenizerError)
        changed = set_prefix_space(data, special)
        raw = json.dumps(data).encode() if changed else json_in_utf8(raw)
        refuse_slow_patterns(data, path)
        self._tokenizer, vocabulary = self._build(raw)
        added = self._tokenizer.get_added_tokens_decoder()
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        by_text = {token.content: token_id for token_id, token in sorted(added.items())}
        self.special_ids = {text: i for text, i in by_text.items() if added[i].special}
        self.added_ids = {text: i for text, i in by_text.items() if not added[i].special}
        self.strips = {
            token_id: (token.lstrip, token.rstrip)
            for token_id, token in added.items()
            if token.special and (token.lstrip or token.rstrip)
        }
        self._specials = frozenset(self.special_ids.values())
        self.bos_id = self._find(special.bos)
        self.eos_id = self._find(special.eos)
        self.end_ids = end_ids(special, vocabulary, self._specials, self.vocab_size)
        self.unk_id = self._unknown_id(data["model"])
        prefixing = list(prefixing_parts(data))
        self.prefix_after_special = any(map(prefixes_every_part, prefixing))
        self._raw = raw if prefixing else None
        self._rule = piece_rule(data.get("decoder"))
        self._pieces: dict[int, bytes | None] = {}

    def stream(self, *, continues: bool = False) -> Detokenizer:
        if self._rule is None:
            # What such a decoder does to the first token is its own affair.
            return WindowDetokenizer(self._decode)
        return ByteDetokenizer(self._piece, self._piece if continues else self._first_piece)

    def token_bytes(self, token_id: int, *, first: bool = False) -> bytes | None:
        if self._rule is None:
            return super().token_bytes(token_id, first=first)
        return self._first_piece(token_id) if first else self._piece(token_id)

    def _encode(self, text: str, continues: bool) -> list[int]:
        tokenizer = self._continuing if continues else self._tokenizer
        with self._failing(f"encode a text of {len(text)} characters"):
            ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _decode(self, ids: list[int]) -> str:
        with self._failing(f"decode {len(ids)} tokens"):
            text: str = self._tokenizer.decode(ids)
        return text

    @contextmanager
    def _failing(self, purpose: str) -> Iterator[None]:
        """Report what the library raises, which may be a panic of Rust's, as an error of ours."""
        try:
            yield
        except BaseException as error:
            if not _is_failure(error):
                raise
            raise TokenizerError(
                f"{self._path} cannot {purpose}: {str(error)[:500]}. If other texts go through, "
                "change or shorten this one; if not, the file is damaged or incomplete.",
                code="tokenizer-failed",
            ) from None

    def _build(self, raw: bytes) -> tuple[tokenizers.Tokenizer, dict[str, int]]:
        """The library's tokenizer, and the ids of its tokens by their texts."""
        try:
            tokenizer = tokenizers.Tokenizer.from_buffer(raw)
            # A file may ask to cut or to fill up every text, which nothing here wants.
            tokenizer.no_truncation()
            tokenizer.no_padding()
            vocabulary = complete(tokenizer, self._special, self._path)
            tokenizer.encode_special_tokens = True
        except BaseException as error:
            if isinstance(error, TokenizerError) or not _is_failure(error):
                raise
            raise TokenizerError(
                f"{self._path} is not a tokenizer that tokenizers {tokenizers.__version__} can "
                f"read: {str(error)[:500]}. Download the file again, or upgrade tokenizers.",
                code="tokenizer-damaged",
            ) from None
        return tokenizer, vocabulary

    @cached_property
    def _continuing(self) -> tokenizers.Tokenizer:
        """The same tokenizer without the space that it puts before text."""
        if self._raw is None:
            return self._tokenizer
        data = parse_json_object(self._raw, self._path, TokenizerError)
        remove_prefix_space(data)
        tokenizer, _ = self._build(json.dumps(data).encode())
        return tokenizer

    def _piece(self, token_id: int) -> bytes | None:
        """The token's bytes; None for special tokens and for ids that there are not."""
        if token_id not in self._pieces:
            assert self._rule is not None
            known = 0 <= token_id < self.vocab_size and token_id not in self._specials
            with self._failing(f"decode the token {token_id}"):
                text = self._tokenizer.id_to_token(token_id) if known else None
            self._pieces[token_id] = None if text is None else self._rule.to_bytes(text)
        return self._pieces[token_id]

    def _first_piece(self, token_id: int) -> bytes | None:
        piece = self._piece(token_id)
        return piece if piece is None or self._rule is None else self._rule.first(piece)

    def _find(self, token: str | int | None) -> int | None:
        """The id of a token given by text or id; None when the vocabulary lacks it."""
        if isinstance(token, str):
            found: int | None = self._tokenizer.token_to_id(token)
            return found
        return token if token is None or 0 <= token < self.vocab_size else None

    def _unknown_id(self, model: dict[str, Any]) -> int | None:
        by_text = model.get("unk_token")
        return self._find(by_text if isinstance(by_text, str) else model.get("unk_id"))


def _is_failure(error: BaseException) -> bool:
    """Whether the library failed; a panic of Rust's is not an ``Exception``."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"
