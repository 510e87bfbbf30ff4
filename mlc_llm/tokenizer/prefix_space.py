"""The space that a ``tokenizer.json`` puts before text: where, and without it.

It stands in the normalizer (``Prepend``) or in the pre-tokenizer (``Metaspace``, ``ByteLevel``).
``tokenizer_config.json`` may say otherwise: its ``add_prefix_space`` goes before what the
pre-tokenizer itself says and, for Llama's classes, which transformers makes again from the
vocabulary then, before all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlc_llm.tokenizer.special import SpecialTokens

_MADE_AGAIN = ("LlamaTokenizer", "CodeLlamaTokenizer")
_INNER = ("normalizers", "pretokenizers")

Part = dict[str, Any]


def prefixing_parts(data: Part) -> Iterator[Part]:
    """The normalizers and pre-tokenizers that put a space (or its symbol) before text.

    Args:
        data: what ``tokenizer.json`` says.
    """
    stack = [data.get("normalizer"), data.get("pre_tokenizer")]
    while stack:
        part = stack.pop()
        if not isinstance(part, dict):
            continue
        for name in _INNER:
            stack += part.get(name) or []
        if part.get("type") in ("Prepend", "Metaspace") or part.get("add_prefix_space"):
            yield part


def prefixes_every_part(part: Part) -> bool:
    """Whether it does so after every special token, not only where the whole text begins."""
    return part.get("type") != "Metaspace" or bool(part.get("prepend_scheme", "always") == "always")


def remove_prefix_space(data: Part) -> None:
    """Let a ``tokenizer.json`` put nothing before text.

    Args:
        data: what it says; it is changed.
    """
    for name in ("normalizer", "pre_tokenizer"):
        data[name] = _without_prefix(data.get(name))


def set_prefix_space(data: Part, special: SpecialTokens) -> bool:
    """Let ``add_prefix_space`` of ``tokenizer_config.json`` go before what ``tokenizer.json`` says.

    Args:
        data: what that says; it may be changed.
        special: what the files beside it say.

    Returns:
        Whether it was changed.
    """
    wanted = special.add_prefix_space
    if wanted is None or not isinstance(data.get("model"), dict):
        return False
    if not wanted and special.tokenizer_class.removesuffix("Fast") in _MADE_AGAIN:
        prefixes = any(True for _ in prefixing_parts(data))
        if prefixes:
            remove_prefix_space(data)
        return prefixes
    part = data.get("pre_tokenizer")
    if not isinstance(part, dict) or part.get("add_prefix_space") in (None, wanted):
        return False
    part["add_prefix_space"] = wanted
    return True


def _without_prefix(part: Any) -> Any:
    """A copy of a normalizer or pre-tokenizer that puts nothing before text."""
    if not isinstance(part, dict):
        return part
    if part.get("type") == "Prepend":
        return None
    part = dict(part)
    for name in _INNER:
        if isinstance(part.get(name), list):
            stripped = [_without_prefix(inner) for inner in part[name]]
            part[name] = [inner for inner in stripped if inner is not None]
    if part.get("type") == "Metaspace":
        part["prepend_scheme"] = "never"
    if part.get("type") in ("Metaspace", "ByteLevel") and "add_prefix_space" in part:
        part["add_prefix_space"] = False
    return part
