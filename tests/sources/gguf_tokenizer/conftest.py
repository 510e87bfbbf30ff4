"""Real tokenizers, and the folders that are made from their metadata."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.sources.gguf_tokenizer import tokenizer_files
from mlc_llm.tokenizer import Tokenizer, load_tokenizer

Made = Callable[[dict[str, Any]], Tokenizer]


def write(files: dict[str, bytes], folder: Path) -> Path:
    """Write files into a folder, and return it."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Load the tokenizer of some metadata."""

    def load(metadata: dict[str, Any]) -> Tokenizer:
        return load_tokenizer(write(tokenizer_files(metadata), tmp_path))

    return load


@pytest.fixture
def byte_vocabulary() -> dict[str, Any]:
    """Small metadata of byte-level BPE: the lower-case letters, some merges, four whole tokens."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    marks = ["\u0120", "\u010a", "'", "<", ">", "|", "_", "1", "2"]
    joined = ["\u0120a", "ab", "abc", "\u0120abc"]
    whole = ["<|start|>", "<|im_end|>", "  ", "[PAD43]"]
    tokens = [*letters, *marks, *joined, *whole]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * (len(tokens) - 4) + [3, 3, 4, 5],
        "tokenizer.ggml.merges": ["\u0120 a", "a b", "ab c"],
        "tokenizer.ggml.bos_token_id": tokens.index("<|start|>"),
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
    }


@pytest.fixture
def piece_vocabulary() -> dict[str, Any]:
    """Small metadata of SentencePiece: 256 bytes, some pieces, and a whole token."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["\u2581a", "ab", "\u2581ab", "\u2581", "a", "b", "c", "[INST]"]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * 7, 3],
        "tokenizer.ggml.scores": [0.0] * 259 + [-float(rank) for rank in range(8)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }
