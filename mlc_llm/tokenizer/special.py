"""Which tokens begin and end a sequence, and which were added: the small files of a folder.

``tokenizer.json`` and ``tokenizer.model`` do not say (all of) this. It stands in
``tokenizer_config.json`` and ``special_tokens_map.json``, by text; or in ``mlc-chat-config.json``,
``config.json`` and ``generation_config.json``, by id. The first file that has the field decides,
also when it says that there is no such token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlc_llm.errors import TokenizerError
from mlc_llm.files import read_json_object

_BY_TEXT = ("tokenizer_config.json", "special_tokens_map.json")
_BY_ID = ("mlc-chat-config.json", "config.json", "generation_config.json")


@dataclass(frozen=True)
class AddedToken:
    """A token that was added to a trained vocabulary.

    Args:
        text: how the token is written.
        special: whether it is a control token, without text of its own.
        lstrip: whether it takes the white space before it.
        rstrip: whether it takes the white space after it.
    """

    text: str
    special: bool
    lstrip: bool = False
    rstrip: bool = False


@dataclass(frozen=True)
class SpecialTokens:
    """What a folder's small files say.

    Args:
        bos: the token that begins a sequence: its text, its id, or None when there is none.
        eos: the token that ends a sequence, likewise.
        says_bos: whether any file has the field at all.
        says_eos: likewise.
        added: tokens added to the vocabulary, by id.
    """

    bos: str | int | None = None
    eos: str | int | None = None
    says_bos: bool = False
    says_eos: bool = False
    added: Mapping[int, AddedToken] = field(default_factory=dict)


def read_special_tokens(folder: Path) -> SpecialTokens:
    """Read a folder's small tokenizer files; files that are not there are skipped.

    Raises:
        TokenizerError: a file is malformed or a Git-LFS pointer.
    """
    by_text = [_read_object(folder / name) for name in _BY_TEXT]
    by_id = [_read_object(folder / name) for name in _BY_ID]
    says_bos, bos = _find(by_text, by_id, "bos")
    says_eos, eos = _find(by_text, by_id, "eos")
    added = _added_tokens(folder, by_text[0])
    return SpecialTokens(bos, eos, says_bos, says_eos, added)


def _read_object(path: Path) -> dict[str, Any]:
    return read_json_object(path, TokenizerError) if path.is_file() else {}


def _find(
    by_text: list[dict[str, Any]], by_id: list[dict[str, Any]], which: str
) -> tuple[bool, str | int | None]:
    """The first field for that token: whether there is one, and its value."""
    for file in by_text:
        if (key := f"{which}_token") in file:
            value = file[key]
            text = value.get("content") if isinstance(value, dict) else value
            return True, text if isinstance(text, str) else None
    for file in by_id:
        if (key := f"{which}_token_id") in file:
            value = file[key]
            first = value[0] if isinstance(value, list) and value else value
            return True, first if isinstance(first, int) else None
    return False, None


def _added_tokens(folder: Path, tokenizer_config: dict[str, Any]) -> dict[int, AddedToken]:
    """The tokens of ``added_tokens.json`` and of ``added_tokens_decoder``, which knows more."""
    path = folder / "added_tokens.json"
    try:
        added = {
            int(token_id): AddedToken(str(text), special=True)
            for text, token_id in _read_object(path).items()
        }
        path = folder / "tokenizer_config.json"
        for token_id, entry in (tokenizer_config.get("added_tokens_decoder") or {}).items():
            flags = {name: bool(entry.get(name, False)) for name in ("special", "lstrip", "rstrip")}
            added[int(token_id)] = AddedToken(entry["content"], **flags)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TokenizerError(f"{path} has a malformed list of added tokens: {error!r}.") from None
    return added
