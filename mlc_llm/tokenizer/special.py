"""Which tokens begin and end a sequence, which control a model, and which were added to it.

``tokenizer.json`` and ``tokenizer.model`` do not say (all of) this. It stands in the small files of
a folder: in ``tokenizer_config.json``, ``special_tokens_map.json`` and ``added_tokens.json``, by
text; in ``mlc-chat-config.json``, ``generation_config.json`` and ``config.json``, by id. Where
several speak:

- one token begins a sequence, and one is *the* token that ends it: those that the first file names
  that has the field, also when it says that there is no such token;
- an answer is ended by any token that any file names as the end;
- a control token is what any file calls one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlc_llm.config.numbers import MOST
from mlc_llm.errors import TokenizerError
from mlc_llm.files import is_file, read_json_object
from mlc_llm.shown import shown

_CONFIG, _MAP, _ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
_BY_ID = ("mlc-chat-config.json", "generation_config.json", "config.json")
_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
"""The tokens with a field of their own, in the order in which transformers adds missing ones."""
_MORE = ("additional_special_tokens", "extra_special_tokens")

Data = dict[str, Any]


@dataclass(frozen=True)
class AddedToken:
    """A token that was added to a trained vocabulary.

    Args:
        text: how the token is written.
        special: whether it is a control token, without text of its own; None where nothing says.
        lstrip: whether it takes the white space before it.
        rstrip: whether it takes the white space after it.
    """

    text: str
    special: bool | None
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
        ends: every token that a file names as the end, by text or id.
        stale_ends: ids that are named as the end in files that another one overrides.
        added: tokens added to the vocabulary, by id.
        named: control tokens that are named by their text.
        maybe: texts in fields of a model's own, such as ``image_token``; control tokens if added.
        pad: the id of the padding, likewise.
        add_prefix_space: what ``tokenizer_config.json`` says of the space before a text.
        legacy: what it says of the space after a special token.
        tokenizer_class: transformers' class for the tokenizer.
        room: tokens that the model has; None where no file says it.
    """

    bos: str | int | None = None
    eos: str | int | None = None
    says_bos: bool = False
    says_eos: bool = False
    ends: tuple[str | int, ...] = ()
    stale_ends: tuple[int, ...] = ()
    added: Mapping[int, AddedToken] = field(default_factory=dict)
    named: tuple[str, ...] = ()
    maybe: tuple[str, ...] = ()
    pad: int | None = None
    add_prefix_space: bool | None = None
    legacy: bool | None = None
    tokenizer_class: str = ""
    room: int | None = None


def read_special_tokens(folder: Path) -> SpecialTokens:
    """Read a folder's small tokenizer files; files that are not there are skipped.

    Raises:
        TokenizerError: a file is malformed or a Git-LFS pointer.
    """
    by_text = {folder / name: _read_object(folder / name) for name in (_CONFIG, _MAP)}
    by_id = [_read_object(folder / name) for name in _BY_ID]
    config = by_text[folder / _CONFIG]
    texts = {which: list(_texts(by_text, f"{which}_token")) for which in _ROLES}
    ids = {which: list(_ids(by_id, f"{which}_token_id")) for which in _ROLES}
    says_bos, bos = _first(texts["bos"], ids["bos"])
    says_eos, eos = _first(texts["eos"], ids["eos"])
    end_texts = [text for text in texts["eos"] if text is not None]
    named = [text for which in _ROLES for text in texts[which] if text is not None]
    sizes = [size for data in by_id if (size := _token_id(data.get("vocab_size"))) is not None]
    return SpecialTokens(
        bos=bos,
        eos=eos,
        says_bos=says_bos,
        says_eos=says_eos,
        ends=tuple(dict.fromkeys([*end_texts, *(ids["eos"][0] if ids["eos"] else ())])),
        stale_ends=tuple(end for found in ids["eos"][1:] for end in found),
        added=_added_tokens(folder, config),
        named=tuple(dict.fromkeys([*named, *_more(by_text)])),
        maybe=tuple(dict.fromkeys(_own_fields(by_text))),
        pad=next((found[0] for found in ids["pad"] if found), None),
        add_prefix_space=_flag(config.get("add_prefix_space")),
        legacy=_flag(config.get("legacy")),
        tokenizer_class=str(config.get("tokenizer_class") or "")[:100],
        room=sizes[0] if sizes else None,
    )


def _read_object(path: Path) -> Data:
    there = is_file(path, TokenizerError)
    return read_json_object(path, TokenizerError) if there else {}


def _first(texts: list[str | None], ids: list[tuple[int, ...]]) -> tuple[bool, str | int | None]:
    """What the first file that has the field says: whether there is one, and the token."""
    if texts:
        return True, texts[0]
    if ids:
        return True, ids[0][0] if ids[0] else None
    return False, None


def _texts(files: Mapping[Path, Data], key: str) -> Iterator[str | None]:
    """What the files that have a field for a token say: its text, or None for no such token."""
    for path, data in files.items():
        if key in data:
            yield _text_of(data[key], path, key)


def _ids(files: list[Data], key: str) -> Iterator[tuple[int, ...]]:
    """What the files that have a field for ids say."""
    for data in files:
        if key in data:
            value = data[key]
            ids = map(_token_id, value if isinstance(value, list) else [value])
            yield tuple(token_id for token_id in ids if token_id is not None)


def _more(files: Mapping[Path, Data]) -> Iterator[str]:
    """The control tokens that have no field of their own."""
    for path, data in files.items():
        for key in _MORE:
            value = data.get(key) or []
            tokens = value.values() if isinstance(value, dict) else value
            if isinstance(value, str) or not isinstance(value, dict | list):
                raise _malformed(path, key, value)
            yield from filter(None, (_text_of(token, path, key) for token in tokens))


def _own_fields(files: Mapping[Path, Data]) -> Iterator[str]:
    """Texts in fields that only some models have, such as ``image_token``."""
    for data in files.values():
        for key, value in data.items():
            if key.endswith("_token") and key.removesuffix("_token") not in _ROLES:
                text = value.get("content") if isinstance(value, dict) else value
                if isinstance(text, str) and text and _is_unicode(text):
                    yield text


def _added_tokens(folder: Path, config: Data) -> dict[int, AddedToken]:
    """The tokens of ``added_tokens.json`` and of ``added_tokens_decoder``, which knows more."""
    added: dict[int, AddedToken] = {}
    path = folder / _ADDED
    for name, value in _read_object(path).items():
        text = _text_of(name, path, "a token")
        if (token_id := _token_id(value)) is None or text is None:
            raise _malformed(path, name, value)
        added[token_id] = AddedToken(text, None)
    path, key = folder / _CONFIG, "added_tokens_decoder"
    decoder = config.get(key) or {}
    if not isinstance(decoder, dict):
        raise _malformed(path, key, decoder)
    for number, entry in decoder.items():
        digits = number.isascii() and number.isdecimal() and len(number) <= 10
        token_id = _token_id(int(number)) if digits else None
        text = _text_of(entry, path, key) if isinstance(entry, dict) else None
        if token_id is None or text is None:
            raise _malformed(path, key, {number: entry})
        flags = {name: bool(entry.get(name, False)) for name in ("special", "lstrip", "rstrip")}
        added[token_id] = AddedToken(text, **flags)
    return added


def _text_of(value: Any, path: Path, key: str) -> str | None:
    """A token's text, which may stand in an object with its flags; None for none."""
    text = value.get("content") if isinstance(value, dict) else value
    if text is None or text == "":
        return None
    if not isinstance(text, str) or not _is_unicode(text):
        raise _malformed(path, key, value)
    return text


def _is_unicode(text: str) -> bool:
    """Whether a text has no half of a surrogate pair, as JSON can write it."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _token_id(value: Any) -> int | None:
    """A token id, or None for anything else."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value <= MOST else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _malformed(path: Path, key: str, value: Any) -> TokenizerError:
    return TokenizerError(
        f"{path} is malformed: {shown(key)} cannot be {shown(value)}. Fetch the file again.",
        code="tokenizer-damaged",
    )
