"""A ``tokenizer.json`` from the tokens of a GGUF file, for byte-level BPE, as GPT-2's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from mlc_llm.shown import shown
from mlc_llm.sources.gguf_pre_tokenizers import PreTokenizer
from mlc_llm.sources.gguf_vocabulary import TokenType, Vocabulary, damaged, string_list, used_size


def tokenizer_json(
    metadata: Mapping[str, Any], vocabulary: Vocabulary, pre_tokenizer: PreTokenizer
) -> bytes:
    """The content of the ``tokenizer.json``, in UTF-8.

    Args:
        metadata: the file's metadata, by key; it has the merges.
        vocabulary: the tokens. Unused ones at its end are left out.
        pre_tokenizer: how text is split before pieces are joined.

    Raises:
        TokenizerError: the merges are missing or malformed, or name tokens that there are not.
    """
    merges = _merges(metadata)
    size = used_size(vocabulary.types)
    ids = {text: token_id for token_id, text in enumerate(vocabulary.texts[:size])}
    try:
        model = models.BPE(vocab=ids, merges=merges, ignore_merges=pre_tokenizer.ignores_merges)
    except Exception as error:  # The library raises nothing more specific.
        raise damaged(
            "merges", f"and the tokens do not fit each other: {str(error)[:200]}"
        ) from None
    tokenizer = tokenizers.Tokenizer(model)
    if pre_tokenizer.composes:
        tokenizer.normalizer = normalizers.NFC()
    splits = [
        pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
        for pattern in pre_tokenizer.patterns
    ]
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(_whole_tokens(vocabulary))
    return tokenizer.to_str().encode()


def _merges(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    merges = [merge.partition(" ") for merge in string_list(metadata, "merges")]
    for first, space, second in merges:
        if not (first and second) or " " in second:
            wrong = first + space + second
            raise damaged("merges", f"must be pairs with a space between, not {shown(wrong)}")
    return [(first, second) for first, _, second in merges]


def _whole_tokens(vocabulary: Vocabulary) -> list[tokenizers.AddedToken]:
    """The tokens that are never joined of pieces: those that control, and those found in text."""
    found = vocabulary.ids_of(TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED)
    return [
        tokenizers.AddedToken(
            vocabulary.texts[token_id],
            special=bool(vocabulary.types[token_id] != TokenType.USER_DEFINED),
            normalized=False,
        )
        for token_id in found
    ]
