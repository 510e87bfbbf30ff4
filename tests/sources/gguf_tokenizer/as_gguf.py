"""The metadata that llama.cpp's converter writes for a tokenizer, made from the original's files.

Facts from its ``conversion/base.py``: which type a token has, how a merge is written, and that rows
of the embedding without a token are called ``[PAD7]``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import sentencepiece

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<\uff5c.*\uff5c>|<unused.*>|<pad>|<mask>", re.DOTALL)
_OF_SPACES = -1e9
_ROLES = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}


def byte_level(path: Path, pre: str, rows: int = 0) -> dict[str, Any]:
    """The metadata of a ``tokenizer.json`` of byte-level BPE.

    Args:
        path: its folder.
        pre: the pre-tokenizer's name.
        rows: rows of the model's embedding, which may be more than there are tokens.
    """
    data = json.loads((path / "tokenizer.json").read_bytes())
    tokens, types = _tokens(data, rows)
    pairs = [m.split(" ") if isinstance(m, str) else m for m in data["model"]["merges"]]
    merges = [" ".join(part.replace(" ", "\u0120") for part in pair) for pair in pairs]
    return _named("gpt2", tokens, types, path) | {
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.merges": merges,
    }


def ranked(path: Path, *, prefix: bool) -> dict[str, Any]:
    """The metadata of a SentencePiece model of which only the ``tokenizer.json`` is here.

    SentencePiece numbers pieces in the order in which it joins them, and scores them so, but for
    those of nothing but spaces.

    Args:
        path: its folder.
        prefix: whether a space is put before a text.
    """
    data = json.loads((path / "tokenizer.json").read_bytes())
    tokens, types = _tokens(data, 0)
    types = [
        BYTE if _BYTE.fullmatch(token) else kind for token, kind in zip(tokens, types, strict=True)
    ]
    types[tokens.index(data["model"]["unk_token"])] = UNKNOWN
    return _named("llama", tokens, types, path) | {
        "tokenizer.ggml.scores": [
            float(-token_id) if token.strip("\u2581") else _OF_SPACES
            for token_id, token in enumerate(tokens)
        ],
        "tokenizer.ggml.add_space_prefix": prefix,
    }


def scored(path: Path) -> dict[str, Any]:
    """The metadata of a ``tokenizer.model``.

    Args:
        path: its folder.
    """
    model = sentencepiece.SentencePieceProcessor(model_file=str(path / "tokenizer.model"))
    ids = range(model.get_piece_size())
    kinds = [(model.is_unknown, UNKNOWN), (model.is_control, CONTROL)]
    kinds += [(model.is_unused, UNUSED), (model.is_byte, BYTE), (lambda _: True, NORMAL)]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [model.id_to_piece(i) for i in ids],
        "tokenizer.ggml.token_type": [next(k for has, k in kinds if has(i)) for i in ids],
        "tokenizer.ggml.scores": [model.get_score(i) for i in ids],
        "tokenizer.ggml.bos_token_id": model.bos_id(),
        "tokenizer.ggml.eos_token_id": model.eos_id(),
        "tokenizer.ggml.unknown_token_id": model.unk_id(),
        "tokenizer.ggml.add_bos_token": True,
    }


def _tokens(data: dict[str, Any], rows: int) -> tuple[list[str], list[int]]:
    added = {token["id"]: token for token in data["added_tokens"]}
    texts = {token_id: text for text, token_id in data["model"]["vocab"].items()}
    texts |= {token_id: token["content"] for token_id, token in added.items()}
    tokens, types = [], []
    for token_id in range(max(rows, max(texts) + 1)):
        text, kind = texts.get(token_id), NORMAL
        if text is None:
            text, kind = f"[PAD{token_id}]", UNUSED
        elif token_id in added:
            special = added[token_id]["special"] or _LOOKS_SPECIAL.fullmatch(text)
            kind = CONTROL if special else USER_DEFINED
            text = text if special else text.replace("\u2581", " ")
        tokens.append(text)
        types.append(kind)
    return tokens, types


def _named(kind: str, tokens: list[str], types: list[int], path: Path) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": kind,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
    }
    texts, ids = _read(path / "tokenizer_config.json"), _read(path / "config.json")
    for role, name in _ROLES.items():
        token = texts.get(f"{name}_token")
        text = token["content"] if isinstance(token, dict) else token
        token_id = ids.get(f"{name}_token_id") if text is None else tokens.index(text)
        if token_id is not None:
            metadata[f"tokenizer.ggml.{role}_token_id"] = token_id
    if "add_bos_token" in texts:
        metadata["tokenizer.ggml.add_bos_token"] = texts["add_bos_token"]
    return metadata


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes()) if path.exists() else {}
