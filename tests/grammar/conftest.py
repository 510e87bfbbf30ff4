"""Real tokenizers, and models with random logits that have them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import mlc_llm
from mlc_llm.grammar import CompiledGrammar, GrammarCompiler, ResponseFormat
from mlc_llm.tokenizer import Tokenizer, load_tokenizer

from .random_model import RandomModel

TOKENIZERS = [
    "demo",
    "smollm2-135m-instruct",
    "llama-2",
    "llama-2.model",
    "mistral-7b-v0.1",
    "mistral-7b-instruct-v0.3",
]
"""Byte-level BPE, SentencePiece's BPE in both formats; with duplicates and added tokens."""

Compile = Callable[[Any], CompiledGrammar]

_load = cache(load_tokenizer)
_model = cache(RandomModel)


@cache
def _compiler(model: RandomModel) -> GrammarCompiler:
    return GrammarCompiler(model.tokenizer, model.vocab_size)


def _compile_for(model: RandomModel) -> Compile:
    def compile_format(value: Any) -> CompiledGrammar:
        response_format = ResponseFormat.parse(value)
        assert response_format is not None
        return _compiler(model).compile(response_format)

    return compile_format


@pytest.fixture
def demo() -> Tokenizer:
    """The tokenizer of the demo model, which is always there."""
    return _load(Path(mlc_llm.__file__).parent / "demo")


@pytest.fixture
def demo_model(demo: Tokenizer) -> RandomModel:
    return _model(demo)


@pytest.fixture
def demo_grammar(demo_model: RandomModel) -> Compile:
    """Compile what a request gives as ``response_format`` for the demo model's tokenizer."""
    return _compile_for(demo_model)


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Each of the tokenizers."""
    name = request.param
    if name == "demo":
        return request.getfixturevalue("demo")
    folder = request.getfixturevalue("test_data") / "tokenizers"
    if name != "llama-2.model":
        return _load(folder / name)
    alone = request.getfixturevalue("tmp_path_factory").getbasetemp() / "grammar-llama-2-model"
    alone.mkdir(exist_ok=True)
    for file in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copyfile(folder / "llama-2" / file, alone / file)
    return _load(alone)


@pytest.fixture
def model(tokenizer: Tokenizer) -> RandomModel:
    return _model(tokenizer)


@pytest.fixture
def grammar(model: RandomModel) -> Compile:
    """As ``demo_grammar``, for each of the tokenizers."""
    return _compile_for(model)
