"""Tokenizers given as ``tokenizer.model`` only, run by the ``sentencepiece`` library."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

import sentencepiece

from mlc_llm.errors import TokenizerError
from mlc_llm.files import read_file
from mlc_llm.tokenizer.base import Tokenizer
from mlc_llm.tokenizer.detokenizer import ByteDetokenizer, Detokenizer
from mlc_llm.tokenizer.pieces import SPACE_SYMBOL, fallback_bytes, strip_one_space
from mlc_llm.tokenizer.special import SpecialTokens

_KEEP_SPACES = b"\x1a\x04\x18\x00\x20\x00"
"""A serialised ModelProto of one field, normalizer_spec (3), that says add_dummy_prefix (3) and
remove_extra_whitespaces (4) are false. Appended to a model it overrides those two: by protobuf's
encoding, a message field that occurs twice is merged, the later values winning."""


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model.

    Its control symbols, and the tokens that the files beside it add, are the special tokens. Text
    never gives them. User-defined symbols are text, as SentencePiece has it.

    Args:
        path: the ``tokenizer.model``.
        special: what the files beside it say.

    Raises:
        TokenizerError: the file is malformed or a Git-LFS pointer.
    """

    prefix_after_special = True
    """Meta's Llama and transformers' ``legacy=True`` encode the text after each special token by
    itself, with the dummy prefix."""

    def __init__(self, path: Path, special: SpecialTokens) -> None:
        self._path = path
        self._proto = read_file(path, TokenizerError)
        self._model = self._load(self._proto)
        size = self._model.get_piece_size()
        # Files list the model's own control symbols among the added tokens, too.
        self._added = {
            token_id: token
            for token_id, token in special.added.items()
            if token_id >= size or self._model.id_to_piece(token_id) != token.text
        }
        self.vocab_size = max([size, *(token_id + 1 for token_id in self._added)])
        self.special_ids = self._special_ids(size)
        self._specials = frozenset(self.special_ids.values())
        self.strips = {
            token_id: (token.lstrip, token.rstrip)
            for token_id, token in special.added.items()
            if token_id in self._specials and (token.lstrip or token.rstrip)
        }
        self.unk_id = self._valid(self._model.unk_id())
        own_bos, own_eos = self._valid(self._model.bos_id()), self._valid(self._model.eos_id())
        self.bos_id = self._find(special.bos) if special.says_bos else own_bos
        self.eos_id = self._find(special.eos) if special.says_eos else own_eos
        # SentencePiece shows what its normaliser does to text, but not the flags themselves.
        self._removes_spaces = SPACE_SYMBOL * 2 not in self._model.normalize("a  a")
        self._strips_first = self._removes_spaces or self._model.normalize("a") != "a"
        self._pieces: dict[int, bytes | None] = {}

    def stream(self, *, continues: bool = False) -> Detokenizer:
        if continues or not self._strips_first:
            return ByteDetokenizer(self._piece, self._piece)
        return ByteDetokenizer(
            self._piece, self._first_piece, first_until_text=self._removes_spaces
        )

    def _encode(self, text: str, continues: bool) -> list[int]:
        model = self._model
        if continues:
            model = self._continuing
            if self._removes_spaces:
                text = re.sub(" {2,}", " ", text)
        ids: list[int] = model.encode(text)
        return ids

    def _load(self, proto: bytes) -> sentencepiece.SentencePieceProcessor:
        try:
            model = sentencepiece.SentencePieceProcessor(model_proto=proto)
        except (RuntimeError, OSError):
            raise TokenizerError(
                f"{self._path} is not a SentencePiece model, or a damaged one. Download it again."
            ) from None
        return model

    @cached_property
    def _continuing(self) -> sentencepiece.SentencePieceProcessor:
        """The same model, without the space before text and keeping the spaces at its ends."""
        return self._load(self._proto + _KEEP_SPACES)

    def _special_ids(self, size: int) -> dict[str, int]:
        model = self._model
        own = {
            model.id_to_piece(token_id): token_id
            for token_id in range(size)
            if token_id not in self._added
            and (model.is_control(token_id) or model.is_unknown(token_id))
        }
        return own | {
            token.text: token_id for token_id, token in self._added.items() if token.special
        }

    def _piece(self, token_id: int) -> bytes | None:
        """The token's bytes; None for special tokens and for ids that there are not."""
        if token_id not in self._pieces:
            self._pieces[token_id] = self._find_piece(token_id)
        return self._pieces[token_id]

    def _find_piece(self, token_id: int) -> bytes | None:
        if token_id in self._specials or not 0 <= token_id < self.vocab_size:
            return None
        if token_id in self._added:
            return self._added[token_id].text.encode("utf-8")
        if token_id >= self._model.get_piece_size():
            return None
        text = self._model.id_to_piece(token_id)
        if self._model.is_byte(token_id):
            return fallback_bytes(text)
        return text.replace(SPACE_SYMBOL, " ").encode("utf-8")

    def _first_piece(self, token_id: int) -> bytes | None:
        piece = self._piece(token_id)
        # A space that is a byte token is meant; only a piece's own may be the dummy prefix.
        if piece is None or token_id in self._added or self._model.is_byte(token_id):
            return piece
        return strip_one_space(piece)

    def _valid(self, token_id: int) -> int | None:
        return token_id if token_id >= 0 else None

    def _find(self, token: str | int | None) -> int | None:
        """The id of a token given by text or id; None when the vocabulary lacks it."""
        if not isinstance(token, str):
            return token if token is None or 0 <= token < self.vocab_size else None
        if token in self.special_ids:
            return self.special_ids[token]
        token_id = self._model.piece_to_id(token)
        return token_id if self._model.id_to_piece(token_id) == token else None
