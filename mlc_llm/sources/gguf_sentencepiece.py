"""A ``tokenizer.model`` from the tokens of a GGUF file, for SentencePiece's BPE.

SentencePiece joins the neighbours whose piece has the highest score. A ``tokenizer.json`` lists
pairs instead, each with a rank of its own, and cannot say that all pairs of one piece rank alike;
it is also six times as large. So what was trained by SentencePiece is given back to it.

Source: SentencePiece's ``sentencepiece_model.proto``. Its types of pieces have GGUF's numbers.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_llm.shown import shown
from mlc_llm.sources.gguf_vocabulary import (
    KEYS,
    TokenType,
    Vocabulary,
    damaged,
    number_array,
    used_size,
)

logger = logging.getLogger("mlc_llm")

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_BPE = 2
_OF_SPACES = -1e9
"""The score that SentencePiece gives to pieces of nothing but spaces."""


def sentencepiece_model(metadata: Mapping[str, Any], vocabulary: Vocabulary, prefix: bool) -> bytes:
    """The serialised ModelProto.

    Args:
        metadata: the file's metadata, by key; it has the scores.
        vocabulary: the tokens. Unused ones at its end are left out.
        prefix: whether a space is put before a text.

    Raises:
        TokenizerError: the scores are malformed, no token stands for what is unknown, or some of
            the 256 byte tokens are missing.
    """
    types = _types(vocabulary)
    size = used_size(types)
    scores = _scores(metadata, vocabulary.texts, types)
    texts = _texts(vocabulary.texts, types)
    pieces = map(_piece, texts[:size], scores[:size].tolist(), types[:size].tolist())
    unknown = texts[int(np.flatnonzero(types == TokenType.UNKNOWN)[0])]
    trainer = (
        _number(3, _BPE)
        + _number(4, size)
        + _number(35, int(_falls_back_to_bytes(texts, types)))
        + _bytes(45, unknown.encode())
    )
    # Spaces stay as they are: add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces.
    normalizer = _bytes(1, b"identity") + _number(3, int(prefix)) + _number(4, 0) + _number(5, 1)
    return b"".join(pieces) + _bytes(2, trainer) + _bytes(3, normalizer)


def _types(vocabulary: Vocabulary) -> NDArray[np.int32]:
    """The types with exactly one unknown token, as SentencePiece wants it."""
    types = vocabulary.types.copy()
    stated = vocabulary.ids_of(TokenType.UNKNOWN)
    named = vocabulary.roles.get("unknown", 0)
    if not stated and types[named] not in (TokenType.CONTROL, TokenType.USER_DEFINED):
        text = shown(vocabulary.texts[named])
        raise damaged(
            "unknown_token_id", f"is missing or wrong: token {named}, {text}, is ordinary text"
        )
    # Some converters call what only fills the vocabulary up unknown, too.
    types[stated] = TokenType.UNUSED
    types[named if named in stated or not stated else stated[0]] = TokenType.UNKNOWN
    return types


def _scores(
    metadata: Mapping[str, Any], texts: list[str], types: NDArray[np.int32]
) -> NDArray[np.float32]:
    stated = number_array(metadata, "scores", "fiu", len(types))
    normal = types == TokenType.NORMAL
    if stated is not None:
        scores = stated.astype(np.float64)
        if not (np.abs(scores) <= np.finfo(np.float32).max).all():
            raise damaged("scores", "has a value that is not a finite float32")
        if normal.sum() < 2 or np.unique(scores[normal]).size > 1:
            return scores.astype(np.float32)
    logger.warning(
        "The GGUF file's %sscores are the same for all tokens, as some converters write them: "
        "pieces are joined in the order of their ids, in which SentencePiece learns them",
        KEYS,
    )
    ranks = [_OF_SPACES if not text.strip(SPACE) else -i for i, text in enumerate(texts)]
    return np.array(ranks, np.float32)


def _texts(texts: list[str], types: NDArray[np.int32]) -> list[str]:
    """The texts as SentencePiece has them: with its symbol for spaces, also in whole tokens."""
    known = set(texts)
    texts = list(texts)
    for token_id in np.flatnonzero(types == TokenType.USER_DEFINED).tolist():
        spaced = texts[token_id].replace(" ", SPACE)
        if spaced not in known:
            texts[token_id] = spaced
            known.add(spaced)
    return texts


def _falls_back_to_bytes(texts: list[str], types: NDArray[np.int32]) -> bool:
    """Whether characters that no piece has are written as byte tokens."""
    found = {texts[token_id] for token_id in np.flatnonzero(types == TokenType.BYTE).tolist()}
    if not found:
        return False
    wanted = [f"<0x{byte:02X}>" for byte in range(256)]
    if missing := [text for text in wanted if text not in found]:
        raise damaged("tokens", f"has byte tokens, but lacks {len(missing)}: {shown(missing)}")
    if odd := sorted(found.difference(wanted)):
        raise damaged("token_type", f"calls {shown(odd)} byte tokens, which are not")
    return True


def _piece(text: str, score: float, kind: int) -> bytes:
    body = _bytes(1, text.encode()) + b"\x15" + struct.pack("<f", score)
    return _bytes(1, body if kind == TokenType.NORMAL else body + _number(3, kind))


def _bytes(field: int, value: bytes) -> bytes:
    """A field of protobuf's wire type 2: its tag, the length, the bytes."""
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _number(field: int, value: int) -> bytes:
    """A field of protobuf's wire type 0: its tag, the number."""
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """A whole number in groups of seven bits, the lowest first."""
    if value < 0x80:
        return bytes((value,))
    return bytes((value & 0x7F | 0x80,)) + _varint(value >> 7)
