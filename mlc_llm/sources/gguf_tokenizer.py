"""The tokenizer of a GGUF file, as the files that a model folder has.

A GGUF file holds the tokens with their types, and either merges (byte-level BPE, ``gpt2``) or
scores (SentencePiece's BPE, ``llama``). The former become a ``tokenizer.json``, the latter a
``tokenizer.model``; what begins and ends a text stands beside it, in ``tokenizer_config.json`` and
``generation_config.json``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from mlc_llm.errors import TokenizerError, unknown
from mlc_llm.sources.gguf_pre_tokenizers import DEFAULT, PRE_TOKENIZERS, PreTokenizer
from mlc_llm.sources.gguf_sentencepiece import sentencepiece_model
from mlc_llm.sources.gguf_vocabulary import (
    KEYS,
    TokenType,
    Vocabulary,
    flag,
    read_vocabulary,
    string,
)

logger = logging.getLogger("mlc_llm")

_BYTE_LEVEL, _SENTENCE_PIECE = "gpt2", "llama"

# Files often name one end only, or that of the model before it learnt to chat.
_ENDS = frozenset(
    {
        "</s>",
        "<EOT>",
        "<end_of_turn>",
        "<end_of_utterance>",
        "<eos>",
        "<|call|>",
        "<|end_of_text|>",
        "<|end|>",
        "<|endoftext|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|im_end|>",
        "<|return|>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "[EOS]",
        "[EOT]",
    }
)
"""The texts of control tokens that end an answer, by the formats of chats."""


def tokenizer_files(metadata: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of the tokenizer, by name; ``load_tokenizer`` reads a folder that has them.

    Args:
        metadata: the file's metadata, by key. Lists may be Python's or NumPy's.

    Raises:
        TokenizerError: the metadata is malformed, or the tokenizer is of a kind, or splits text in
            a way, that is not known.
    """
    kind = _kind(metadata)
    pre_tokenizer = _pre_tokenizer(metadata) if kind == _BYTE_LEVEL else None
    vocabulary = read_vocabulary(metadata)
    config = _config(metadata, vocabulary, pre_tokenizer)
    if pre_tokenizer is not None:
        from mlc_llm.sources.gguf_byte_level import tokenizer_json

        name, content = "tokenizer.json", tokenizer_json(metadata, vocabulary, pre_tokenizer)
    else:
        prefix = config["add_prefix_space"]
        name, content = "tokenizer.model", sentencepiece_model(metadata, vocabulary, prefix)
    return {
        name: content,
        "tokenizer_config.json": _json(config),
        "generation_config.json": _json(_generation(vocabulary)),
    }


def _kind(metadata: Mapping[str, Any]) -> str:
    kind = string(metadata, "model")
    if kind is None:
        raise TokenizerError(
            f"The GGUF file holds no tokenizer: {KEYS}model is missing. Convert the original model "
            "again, with its tokenizer.",
            code="tokenizer-missing",
        )
    if kind not in (_BYTE_LEVEL, _SENTENCE_PIECE):
        kinds = (_BYTE_LEVEL, _SENTENCE_PIECE)
        raise TokenizerError(
            f"{unknown('GGUF tokenizer', kind, kinds)} Take a model whose {KEYS}model is one of "
            "these, or the original model in Hugging Face's layout.",
            code="tokenizer-unsupported",
        )
    return kind


def _pre_tokenizer(metadata: Mapping[str, Any]) -> PreTokenizer:
    name = string(metadata, "pre")
    if not name:
        logger.warning(
            "The GGUF file does not say how its tokenizer splits text (%spre is missing): the "
            "pre-tokenizer %r is used, with which the model may answer worse. Files that were "
            "converted since May 2024 have it",
            KEYS,
            DEFAULT,
        )
        name = DEFAULT
    if name not in PRE_TOKENIZERS:
        raise TokenizerError(
            f"{unknown('pre-tokenizer', name, PRE_TOKENIZERS)} The GGUF file names it in "
            f"{KEYS}pre. Take the original model in Hugging Face's layout, whose tokenizer.json "
            "says how text is split.",
            code="tokenizer-unsupported",
        )
    return PRE_TOKENIZERS[name]


def _config(
    metadata: Mapping[str, Any], vocabulary: Vocabulary, pre_tokenizer: PreTokenizer | None
) -> dict[str, Any]:
    """The content of ``tokenizer_config.json``."""
    stated = flag(metadata, "add_bos_token")
    adds_bos = stated if stated is not None else pre_tokenizer is None or pre_tokenizer.adds_bos
    prefix = flag(metadata, "add_space_prefix")
    bos = _bos(metadata, vocabulary, adds_bos)
    config = {
        "add_bos_token": adds_bos and bos is not None,
        "add_eos_token": flag(metadata, "add_eos_token") or False,
        "bos_token": bos,
        "clean_up_tokenization_spaces": False,
        "eos_token": _text(vocabulary, "eos"),
        "pad_token": _text(vocabulary, "padding"),
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": _text(vocabulary, "unknown"),
    }
    if pre_tokenizer is None:
        config["add_prefix_space"] = prefix is not False
        # Mistral's tokenizers with these tokens put a space only where the whole text begins.
        config["legacy"] = "[INST]" not in map(
            vocabulary.texts.__getitem__, _control_ids(vocabulary)
        )
        config["tokenizer_class"] = "LlamaTokenizer"
        config["add_bos_token"] = adds_bos
        for role in {"bos", "eos"}.difference(vocabulary.roles):
            del config[f"{role}_token"]  # SentencePiece's own stand: <s> and </s>.
    return config


_TEMPLATE = "tokenizer.chat_template"


def _bos(metadata: Mapping[str, Any], vocabulary: Vocabulary, adds: bool) -> str | None:
    """The token that begins a text.

    Converters write one also for models that have none, such as Qwen's: the padding token.
    """
    bos, padding = vocabulary.roles.get("bos"), vocabulary.roles.get("padding")
    if not adds and bos == padding and "bos_token" not in str(metadata.get(_TEMPLATE)):
        return None
    if adds and bos is None and flag(metadata, "add_bos_token"):
        logger.warning(
            "The GGUF file says that a text begins with BOS (%sadd_bos_token), but not which "
            "token that is (%sbos_token_id): none is added",
            KEYS,
            KEYS,
        )
    return _text(vocabulary, "bos")


def _text(vocabulary: Vocabulary, role: str) -> str | None:
    """The text of the token with a role; None where there is none, or it is ordinary text."""
    token_id = vocabulary.roles.get(role)
    if token_id is None:
        return None
    ordinary = vocabulary.types[token_id] not in (TokenType.CONTROL, TokenType.UNKNOWN)
    return None if ordinary and role in ("padding", "unknown") else vocabulary.texts[token_id]


def _generation(vocabulary: Vocabulary) -> dict[str, Any]:
    """The content of ``generation_config.json``: the ids of the tokens that end an answer."""
    roles = vocabulary.roles
    control = {vocabulary.texts[token_id]: token_id for token_id in _control_ids(vocabulary)}
    named = [roles[role] for role in ("eos", "eot", "eom") if role in roles]
    ends = _ENDS.intersection(control)
    if {"<|call|>", "<|return|>", "<|end|>"} <= ends:
        ends -= {"<|end|>"}  # In OpenAI's harmony format, of a message, and not of the answer.
    found = dict.fromkeys([*named, *sorted(control[text] for text in ends)])
    return {"eos_token_id": list(found)}


def _control_ids(vocabulary: Vocabulary) -> list[int]:
    return vocabulary.ids_of(TokenType.CONTROL)


def _json(data: dict[str, Any]) -> bytes:
    return json.dumps(data, ensure_ascii=False, indent=2).encode() + b"\n"
