"""Patterns that backtrack without end are refused when a tokenizer is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.testing import raises
from mlc_llm.tokenizer import load_tokenizer
from mlc_llm.tokenizer.split_patterns import is_suspicious

Writer = Callable[..., Path]

GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def splitting(*patterns: str) -> dict[str, Any]:
    """A pre-tokenizer that splits text by patterns, one after another."""
    steps = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in patterns
    ]
    return {"type": "Sequence", "pretokenizers": steps}


@pytest.mark.parametrize("pattern", [GPT_2, LLAMA_3, r"\p{N}{1,3}", " ", ""])
def test_published_patterns_are_not_tried(pattern: str) -> None:
    assert not is_suspicious(pattern)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", r"(\s*x*)*y", r"(a*)\1*c", "a*a*a*b"])
def test_what_may_backtrack_is_tried(pattern: str) -> None:
    assert is_suspicious(pattern)


def test_the_pattern_that_has_no_end_is_named(write_tokenizer: Writer) -> None:
    """All patterns of a file share one deadline."""
    endless = "(c+)+d"
    path = write_tokenizer(["a", "b"], pre_tokenizer=splitting("(ab?)+", endless, "(ab?)+c"))
    with raises("tokenizer-endless", endless):
        load_tokenizer(path)


def test_a_pattern_that_only_looks_so_is_used(write_tokenizer: Writer) -> None:
    path = write_tokenizer(["a", "b"], pre_tokenizer=splitting("(ab?)+"))
    assert load_tokenizer(path).encode("abaa") == [0, 1, 0, 0]


def test_a_pattern_that_is_none(write_tokenizer: Writer) -> None:
    path = write_tokenizer(["a"], pre_tokenizer=splitting("(a+)+("))
    with raises("tokenizer-endless", json.dumps("(a+)+(")[1:-1]):
        load_tokenizer(path)
