"""The tokenizers under test: real ones, and small ones of kinds that no real folder here has."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.tokenizer import Tokenizer, load_tokenizer

LLAMA_2_SPECIALS = ("<unk>", "<s>", "</s>")


@cache
def _loaded(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


@pytest.fixture(scope="session")
def tokenizers_folder(test_data: Path) -> Path:
    return test_data / "tokenizers"


@pytest.fixture(scope="session")
def llama_2_model_folder(tokenizers_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama-2's folder without its ``tokenizer.json``."""
    folder = tmp_path_factory.mktemp("llama-2-model")
    for name in ("tokenizer.model", "tokenizer_config.json"):
        (folder / name).write_bytes((tokenizers_folder / "llama-2" / name).read_bytes())
    return folder


@pytest.fixture(scope="session")
def real(test_data: Path, llama_2_model_folder: Path) -> Callable[[str], Tokenizer]:
    """Load one of the real tokenizers by name (see ``REAL``), once a session."""

    def load(name: str) -> Tokenizer:
        kind, _, rest = name.partition("/")
        folder = llama_2_model_folder if name == "llama-2.model" else test_data / kind / rest
        return _loaded(folder)

    return load


@pytest.fixture
def write_tokenizer(tmp_path: Path) -> Callable[..., Path]:
    """Write a small BPE ``tokenizer.json``; keyword arguments are its other fields."""

    def write(tokens: list[str], *, specials: tuple[str, ...] = (), **fields: Any) -> Path:
        vocab = {token: index for index, token in enumerate(tokens)}
        added = [
            {
                "id": vocab[text],
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for text in specials
        ]
        data = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": None,
            "post_processor": None,
            "decoder": None,
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
            **fields,
        }
        (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
        return tmp_path

    return write
