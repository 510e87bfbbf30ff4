"""Tokenizers given as ``tokenizer.json``, run by the ``tokenizers`` library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from mlc_llm.errors import TokenizerError
from mlc_llm.files import parse_json_object, read_file
from mlc_llm.tokenizer.base import Tokenizer
from mlc_llm.tokenizer.detokenizer import ByteDetokenizer, Detokenizer, WindowDetokenizer
from mlc_llm.tokenizer.pieces import piece_rule
from mlc_llm.tokenizer.special import SpecialTokens


class HuggingFaceTokenizer(Tokenizer):
    """A ``tokenizer.json``.

    Tokens that the file marks as special are not recognised in text; added tokens that are not
    special, such as runs of spaces, are, as they are a part of how the model reads text.

    Args:
        path: the ``tokenizer.json``.
        special: what the files beside it say.

    Raises:
        TokenizerError: the file is malformed or a Git-LFS pointer.
    """

    def __init__(self, path: Path, special: SpecialTokens) -> None:
        self._path = path
        raw = read_file(path, TokenizerError)
        data = parse_json_object(raw, path, TokenizerError)
        self._tokenizer = self._build(raw)
        added = self._tokenizer.get_added_tokens_decoder()
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        self.special_ids = {
            token.content: token_id for token_id, token in sorted(added.items()) if token.special
        }
        self.strips = {
            token_id: (token.lstrip, token.rstrip)
            for token_id, token in added.items()
            if token.special and (token.lstrip or token.rstrip)
        }
        self.bos_id = self._find(special.bos)
        self.eos_id = self._find(special.eos)
        self.unk_id = self._unknown_id(data["model"])
        prefixing = list(_prefixing_parts(data))
        self.prefix_after_special = any(map(_prefixes_every_part, prefixing))
        self._raw = raw if prefixing else None
        self._specials = frozenset(self.special_ids.values())
        self._rule = piece_rule(data.get("decoder"))
        self._pieces: dict[int, bytes | None] = {}

    def stream(self, *, continues: bool = False) -> Detokenizer:
        if self._rule is None:
            # What such a decoder does to the first token is its own affair.
            return WindowDetokenizer(self._tokenizer.decode)
        return ByteDetokenizer(self._piece, self._piece if continues else self._first_piece)

    def _encode(self, text: str, continues: bool) -> list[int]:
        tokenizer = self._continuing if continues else self._tokenizer
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _build(self, raw: bytes) -> tokenizers.Tokenizer:
        try:
            tokenizer = tokenizers.Tokenizer.from_buffer(raw)
        except Exception as error:  # The library raises nothing more specific.
            raise TokenizerError(
                f"{self._path} is not a tokenizer that tokenizers {tokenizers.__version__} can "
                f"read: {error}. Download the file again, or upgrade tokenizers."
            ) from None
        # A file may ask to cut or to fill up every text, which nothing here wants.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        return tokenizer

    @cached_property
    def _continuing(self) -> tokenizers.Tokenizer:
        """The same tokenizer without the space that it puts before text."""
        if self._raw is None:
            return self._tokenizer
        data = parse_json_object(self._raw, self._path, TokenizerError)
        for name in ("normalizer", "pre_tokenizer"):
            data[name] = _without_prefix(data.get(name))
        return self._build(json.dumps(data).encode())

    def _piece(self, token_id: int) -> bytes | None:
        """The token's bytes; None for special tokens and for ids that there are not."""
        if token_id not in self._pieces:
            assert self._rule is not None
            known = 0 <= token_id < self.vocab_size and token_id not in self._specials
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


def _prefixing_parts(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The normalizers and pre-tokenizers that put a space (or its symbol) before text."""
    stack = [data.get("normalizer"), data.get("pre_tokenizer")]
    while stack:
        part = stack.pop()
        if not part:
            continue
        stack += part.get("normalizers", []) + part.get("pretokenizers", [])
        if part["type"] in ("Prepend", "Metaspace") or part.get("add_prefix_space"):
            yield part


def _prefixes_every_part(part: dict[str, Any]) -> bool:
    """Whether it does so after every special token, not only where the whole text begins."""
    return part["type"] != "Metaspace" or bool(part.get("prepend_scheme", "always") == "always")


def _without_prefix(part: dict[str, Any] | None) -> dict[str, Any] | None:
    """A copy of a normalizer or pre-tokenizer that puts nothing before text."""
    if part is None or part["type"] == "Prepend":
        return None
    part = dict(part)
    for name in ("normalizers", "pretokenizers"):
        if name in part:
            stripped = [_without_prefix(inner) for inner in part[name]]
            part[name] = [inner for inner in stripped if inner is not None]
    if part["type"] == "Metaspace":
        part["prepend_scheme"] = "never"
    if part["type"] in ("Metaspace", "ByteLevel") and "add_prefix_space" in part:
        part["add_prefix_space"] = False
    return part
