"""Tokenizers given as ``tokenizer.model`` only, run by the ``sentencepiece`` library."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

import sentencepiece

from mlc_llm.errors import TokenizerError
from mlc_llm.files import read_file
from mlc_llm.tokenizer.base import Tokenizer
from mlc_llm.tokenizer.control import control_texts, end_ids, looks_like_control
from mlc_llm.tokenizer.detokenizer import ByteDetokenizer, Detokenizer
from mlc_llm.tokenizer.foreign import refuse_tiktoken
from mlc_llm.tokenizer.pieces import SPACE_SYMBOL, fallback_bytes, strip_one_space
from mlc_llm.tokenizer.special import SpecialTokens

_KEEP_SPACES = b"\x1a\x04\x18\x00\x20\x00"
"""A serialised ModelProto of one field, normalizer_spec (3), that says add_dummy_prefix (3) and
remove_extra_whitespaces (4) are false. Appended to a model it overrides those two: by protobuf's
encoding, a message field that occurs twice is merged, the later values winning."""


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model.

    Its control symbols, the tokens that the files beside it add, and those that they call control
    tokens are the special tokens. Text never gives them. Other user-defined symbols are text, as
    SentencePiece has it.

    Args:
        path: the ``tokenizer.model``.
        special: what the files beside it say.

    Raises:
        TokenizerError: the file is malformed or a Git-LFS pointer.
    """

    def __init__(self, path: Path, special: SpecialTokens) -> None:
        self._path = path
        self._proto = read_file(path, TokenizerError)
        refuse_tiktoken(path, self._proto)
        self._model = self._load(self._proto)
        pieces = self._read_pieces()
        # Files list the model's own control symbols among the added tokens, too.
        self._added = {
            token_id: token.text
            for token_id, token in special.added.items()
            if token_id >= len(pieces) or pieces[token_id] != token.text
        }
        ids = {piece: token_id for token_id, piece in reversed([*enumerate(pieces)])}
        ids |= {text: token_id for token_id, text in self._added.items()}
        self._add_missing(special, ids)
        self.vocab_size = max([len(pieces), *(token_id + 1 for token_id in self._added)])
        self.special_ids = self._special_ids(special, ids)
        self._specials = frozenset(self.special_ids.values())
        self.strips = {
            token_id: (token.lstrip, token.rstrip)
            for token_id, token in special.added.items()
            if token_id in self._specials and (token.lstrip or token.rstrip)
        }
        self.unk_id = self._valid(self._model.unk_id())
        own_bos, own_eos = self._valid(self._model.bos_id()), self._valid(self._model.eos_id())
        self.bos_id = self._find(special.bos, ids) if special.says_bos else own_bos
        self.eos_id = self._find(special.eos, ids) if special.says_eos else own_eos
        ends = end_ids(special, ids, self._specials, self.vocab_size)
        self.end_ids = ends.union(() if own_eos is None else (own_eos,))
        # SentencePiece shows what its normaliser does to text, but not the flags themselves.
        self._removes_spaces = SPACE_SYMBOL * 2 not in self._model.normalize("a  a")
        self._prefixes = special.add_prefix_space is not False
        self._strips_first = self._prefixes and (
            self._removes_spaces or self._model.normalize("a") != "a"
        )
        # Meta's Llama and transformers' ``legacy=True`` encode the text after each special token
        # by itself, with the dummy prefix.
        self.prefix_after_special = self._prefixes and special.legacy is not False
        self._pieces: dict[int, bytes | None] = {}

    def stream(self, *, continues: bool = False) -> Detokenizer:
        if continues or not self._strips_first:
            return ByteDetokenizer(self._piece, self._piece)
        return ByteDetokenizer(
            self._piece, self._first_piece, first_until_text=self._removes_spaces
        )

    def token_bytes(self, token_id: int, *, first: bool = False) -> bytes | None:
        strips = first and self._strips_first
        return self._first_piece(token_id) if strips else self._piece(token_id)

    def _encode(self, text: str, continues: bool) -> list[int]:
        model = self._model
        if continues or not self._prefixes:
            model = self._continuing
            if self._removes_spaces:
                text = re.sub(" {2,}", " ", text)
        try:
            ids: list[int] = model.encode(text)
        except Exception as error:  # The library raises nothing more specific.
            raise TokenizerError(
                f"{self._path} cannot encode a text of {len(text)} characters: {error}. If other "
                "texts go through, change or shorten this one; if not, the file is damaged.",
                code="tokenizer-failed",
            ) from None
        return ids

    def _load(self, proto: bytes) -> sentencepiece.SentencePieceProcessor:
        try:
            model = sentencepiece.SentencePieceProcessor(model_proto=proto)
        except (RuntimeError, OSError, ValueError):  # ValueError: a reason that is not UTF-8.
            raise self._damaged() from None
        return model

    def _read_pieces(self) -> list[str]:
        """The texts of all tokens of the model."""
        try:
            return [self._model.id_to_piece(i) for i in range(self._model.get_piece_size())]
        except (RuntimeError, ValueError, IndexError):  # As for text that is not UTF-8.
            raise self._damaged() from None

    def _damaged(self) -> TokenizerError:
        return TokenizerError(
            f"{self._path} is not a SentencePiece model, or a damaged one. Download it again.",
            code="tokenizer-damaged",
        )

    @cached_property
    def _continuing(self) -> sentencepiece.SentencePieceProcessor:
        """The same model, without the space before text and keeping the spaces at its ends."""
        return self._load(self._proto + _KEEP_SPACES)

    def _add_missing(self, special: SpecialTokens, ids: dict[str, int]) -> None:
        """Give control tokens that are named only by their text ids, as transformers does."""
        for text in special.named:
            following = max(ids.values(), default=-1) + 1
            if text not in ids and special.room is not None and following < special.room:
                ids[text] = following
                self._added[following] = text

    def _special_ids(self, special: SpecialTokens, ids: dict[str, int]) -> dict[str, int]:
        model = self._model
        own = {
            text: token_id
            for text, token_id in ids.items()
            if token_id not in self._added
            and (model.is_control(token_id) or model.is_unknown(token_id))
        }
        listed = {token.text: token.special for token in special.added.values()}
        added = {text for text in self._added.values() if listed.get(text) in (True, None)}
        # What a vocabulary has of such texts was never learnt as a piece.
        marks = filter(looks_like_control, ids)
        control = control_texts(special, ids, marks) | added
        return own | {text: ids[text] for text in sorted(control, key=ids.__getitem__)}

    def _piece(self, token_id: int) -> bytes | None:
        """The token's bytes; None for special tokens and for ids that there are not."""
        if token_id not in self._pieces:
            self._pieces[token_id] = self._find_piece(token_id)
        return self._pieces[token_id]

    def _find_piece(self, token_id: int) -> bytes | None:
        if token_id in self._specials or not 0 <= token_id < self.vocab_size:
            return None
        if token_id in self._added:
            return self._added[token_id].encode("utf-8")
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

    def _find(self, token: str | int | None, ids: dict[str, int]) -> int | None:
        """The id of a token given by text or id; None when the vocabulary lacks it."""
        if isinstance(token, str):
            return ids.get(token)
        return token if token is None or 0 <= token < self.vocab_size else None
