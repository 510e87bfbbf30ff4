"""The files of tokenizer and chat template, which a model folder carries as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlc_llm.errors import ConversionError
from mlc_llm.files import read_json_object, refuse_lfs_pointer
from mlc_llm.tokenizer.chat_template import TEMPLATE_FILES
from mlc_llm.weights.paths import is_file

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    *TEMPLATE_FILES,
)


def find_tokenizer_files(folder: Path) -> list[str]:
    """The names of the tokenizer's files that the folder has.

    Raises:
        ConversionError: one of them is a Git-LFS pointer.
    """
    names = [name for name in TOKENIZER_FILES if is_file(folder / name, ConversionError)]
    for name in names:
        refuse_lfs_pointer(folder / name, ConversionError)
    return names


def tokenizer_info(folder: Path) -> dict[str, Any] | None:
    """How the tokenizer treats bytes and spaces, in the form that MLC's runtimes read.

    Returns:
        The object, or None where there is no ``tokenizer.json`` to take it from.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    data = read_json_object(path, ConversionError)
    decoders = _steps(data.get("decoder"), "decoders")
    kinds = {step.get("type") for step in decoders}
    return {
        "token_postproc_method": "byte_level" if "ByteLevel" in kinds else "byte_fallback",
        "prepend_space_in_encode": any(
            step.get("type") == "Prepend" and step.get("prepend") == "▁"
            for step in _steps(data.get("normalizer"), "normalizers")
        ),
        "strip_space_in_decode": any(
            step.get("type") == "Strip" and step.get("start", 0) > 0 for step in decoders
        ),
    }


def _steps(part: Any, key: str) -> list[dict[str, Any]]:
    """The steps of a normalizer or decoder, which may be one step or a sequence of them."""
    if not isinstance(part, dict):
        return []
    steps = part.get(key, []) if part.get("type") == "Sequence" else [part]
    return [step for step in steps if isinstance(step, dict)]
