"""The tokens of a GGUF file, from the keys ``tokenizer.ggml.*`` of its metadata, checked.

Source: the GGUF specification (ggml's ``docs/gguf.md``), section "Tokenizer".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_llm.errors import TokenizerError
from mlc_llm.shown import shown

KEYS = "tokenizer.ggml."
"""What the names of all keys begin with; the functions below take the rest of the name."""

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_BOUNDARIES = ("bos", "eos", "eot", "eom")
_ROLES = (*_BOUNDARIES, "unknown", "padding")


class TokenType(IntEnum):
    """What a token is, as ``tokenizer.ggml.token_type`` numbers it."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Vocabulary:
    """All tokens, by id.

    Args:
        texts: their texts; none is empty, and none occurs twice.
        types: int32, their :class:`TokenType`.
        roles: the ids of the tokens with a meaning: ``bos``, ``eos``, ``eot`` (end of a turn),
            ``eom`` (end of a message), ``unknown`` and ``padding``, those that the file has.
    """

    texts: list[str]
    types: NDArray[np.int32]
    roles: Mapping[str, int]

    def ids_of(self, *types: TokenType) -> list[int]:
        """The ids of all tokens of some types, in their order."""
        ids: list[int] = np.flatnonzero(np.isin(self.types, types)).tolist()
        return ids


def read_vocabulary(metadata: Mapping[str, Any]) -> Vocabulary:
    """Read the tokens, their types and the ids of those with a meaning.

    Tokens that only fill the vocabulary up count as unused, whatever the file calls them. Those
    that begin and end texts are control tokens.

    Args:
        metadata: the file's metadata, by key.

    Raises:
        TokenizerError: a key is missing or malformed, or keys contradict each other.
    """
    texts = string_list(metadata, "tokens")
    if not texts:
        raise damaged("tokens", "is empty")
    roles = {role: _token_id(metadata, f"{role}_token_id", len(texts)) for role in _ROLES}
    found = {role: token_id for role, token_id in roles.items() if token_id is not None}
    types = _types(metadata, texts, found)
    for token_id, text in enumerate(texts):
        # Converters write the latter for rows of the embedding that no token has.
        if not text or (text[0] == "[" and text == f"[PAD{token_id}]"):
            texts[token_id] = text or f"[EMPTY_{token_id}]"
            types[token_id] = TokenType.UNUSED
    _check_distinct(texts)
    for role in _BOUNDARIES:
        # One character cannot be written in another way.
        if role in found and len(texts[found[role]]) > 1:
            types[found[role]] = TokenType.CONTROL
    return Vocabulary(texts, types, found)


def used_size(types: NDArray[np.int32]) -> int:
    """How many tokens there are without the unused ones at the end.

    Args:
        types: the types of all tokens.
    """
    return int(np.flatnonzero(types != TokenType.UNUSED).max(initial=-1)) + 1


def string_list(metadata: Mapping[str, Any], name: str) -> list[str]:
    """A new list of the strings of a key.

    Raises:
        TokenizerError: the key is missing, or its value is not a list or an array of strings.
    """
    value = _sequence(metadata, name)
    strings = [str(item) for item in value if isinstance(item, str)]
    if len(strings) != len(value):
        wrong = next(item for item in value if not isinstance(item, str))
        raise damaged(name, f"must be strings, and one is {shown(wrong)}")
    try:
        "".join(strings).encode()
    except UnicodeEncodeError:
        raise damaged(name, "has a string that is not UTF-8") from None
    return strings


def number_array(
    metadata: Mapping[str, Any], name: str, kinds: str, size: int
) -> NDArray[np.generic] | None:
    """The numbers of a key, one for each token, or None where the file lacks it.

    Args:
        metadata: the file's metadata, by key.
        name: the key, without its beginning.
        kinds: NumPy's letters for the kinds of numbers that are allowed, such as ``"iu"``.
        size: how many numbers there must be.

    Raises:
        TokenizerError: they are not numbers of these kinds, or not ``size`` many.
    """
    if metadata.get(KEYS + name) is None:
        return None
    value = _sequence(metadata, name)
    try:
        array: NDArray[np.generic] = np.asarray(value)
    except (ValueError, OverflowError):
        raise damaged(name, "is not a list of numbers") from None
    if array.shape != (size,):
        raise damaged(name, f"has {len(value)} values, but {KEYS}tokens has {size}")
    if array.dtype.kind not in kinds:
        odd = (item for item in value if np.asarray(item).dtype.kind not in kinds)
        raise damaged(name, f"must be numbers, and one is {shown(next(odd, value[0]))}")
    return array


def string(metadata: Mapping[str, Any], name: str) -> str | None:
    """The string of a key, or None where the file lacks it.

    Raises:
        TokenizerError: it is not a string.
    """
    value = metadata.get(KEYS + name)
    if value is not None and not isinstance(value, str):
        raise damaged(name, f"must be a string, not {shown(value)}")
    return value


def flag(metadata: Mapping[str, Any], name: str) -> bool | None:
    """Whether a key is true, or None where the file lacks it.

    Raises:
        TokenizerError: it is neither true nor false.
    """
    value = metadata.get(KEYS + name)
    if value is not None and not isinstance(value, bool | np.bool_):
        raise damaged(name, f"must be true or false, not {shown(value)}")
    return None if value is None else bool(value)


def damaged(name: str, what: str) -> TokenizerError:
    """The error for a key that cannot be as it is.

    Args:
        name: the key, without its beginning.
        what: what is wrong; the sentence begins with the key.
    """
    return TokenizerError(
        f"The GGUF file's {KEYS}{name} {what}. Download the file again, or convert the original "
        "model again.",
        code="tokenizer-damaged",
    )


def _sequence(metadata: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = metadata.get(KEYS + name)
    if value is None:
        raise damaged(name, "is missing")
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise damaged(name, f"must be a list, not {shown(value)}")
    return value


def _token_id(metadata: Mapping[str, Any], name: str, size: int) -> int | None:
    value = metadata.get(KEYS + name)
    if value is None:
        return None
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise damaged(name, f"must be a whole number, not {shown(value)}")
    if not 0 <= value < size:
        raise damaged(name, f"is {shown(int(value))}, but there are {size} tokens")
    return int(value)


def _types(
    metadata: Mapping[str, Any], texts: list[str], roles: Mapping[str, int]
) -> NDArray[np.int32]:
    stated = number_array(metadata, "token_type", "iu", len(texts))
    if stated is not None:
        # 0 is "undefined", which is read as normal.
        wrong = (stated < 0) | (stated > max(TokenType))  # type: ignore[operator]
        if wrong.any():
            token_id = int(np.argmax(wrong))
            raise damaged(
                "token_type",
                f"gives token {token_id} the type {stated[token_id]}; there are 1 to 6",
            )
        return np.maximum(stated.astype(np.int32), TokenType.NORMAL)
    types = np.full(len(texts), TokenType.NORMAL, np.int32)
    types[[i for i, text in enumerate(texts) if _BYTE.fullmatch(text)]] = TokenType.BYTE
    if "unknown" in roles:
        types[roles["unknown"]] = TokenType.UNKNOWN
    return types


def _check_distinct(texts: list[str]) -> None:
    ids = {text: token_id for token_id, text in enumerate(texts)}
    if len(ids) == len(texts):
        return
    first = next(i for i, text in enumerate(texts) if ids[text] != i)
    raise damaged(
        "tokens", f"has {shown(texts[first])} twice, as token {first} and {ids[texts[first]]}"
    )
