"""Tokenizers in the formats of others, which are sound and not read: called by their names."""

from __future__ import annotations

import re
from pathlib import Path

from mlc_llm.errors import TokenizerError

_FILES = {
    "tekken.json": "Mistral's own format",
    "vocab.json": "the format of transformers' slow tokenizers",
    "qwen.tiktoken": "tiktoken's format",
    "spiece.model": "a SentencePiece model of another name",
}
_TIKTOKEN = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n")
"""A line of tiktoken's format: a token in base64, and its rank."""


def refuse_tiktoken(path: Path, content: bytes) -> None:
    """Refuse the content of a ``tokenizer.model`` that is tiktoken's, as Meta gives it for Llama 3.

    Raises:
        TokenizerError: it is.
    """
    if _TIKTOKEN.match(content):
        raise TokenizerError(
            f"{path} is in tiktoken's format, which is not read. {_REMEDY}",
            code="tokenizer-unsupported",
        )


def what_it_has_instead(folder: Path) -> str:
    """A sentence on a tokenizer of another format in a folder; empty where there is none."""
    for name, what in _FILES.items():
        if (folder / name).is_file():
            return f" It has {name}, which is {what}. {_REMEDY}"
    return ""


_REMEDY = (
    "Copy the tokenizer.json of the same model in Hugging Face's layout; transformers makes one: "
    "AutoTokenizer.from_pretrained(SOURCE).save_pretrained(FOLDER)."
)
