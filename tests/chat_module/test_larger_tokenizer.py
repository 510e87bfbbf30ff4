"""A tokenizer with more tokens than its model has: what Gemma 3's text models come with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlc_llm import ChatConfig, ChatModule
from mlc_llm.errors import TokenizerError
from mlc_llm.testing import raises

EXTRA = "<picture>"
"""A text that the tokenizer reads as a token that the model does not have."""

ID = 320


@pytest.fixture
def larger(folder: Path, tmp_path: Path) -> str:
    """The small model's folder with one more token in its tokenizer."""
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    path = copy / "tokenizer.json"
    tokenizer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    tokenizer["added_tokens"].append({"id": ID, "content": EXTRA, **flags})
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    return str(copy)


def test_it_is_said_once_and_only_that_token_is_refused(
    larger: str, library: str, caplog: pytest.LogCaptureFixture
) -> None:
    with ChatModule(larger, "cpu", ChatConfig(temperature=0, max_gen_len=8), library) as chat:
        answer = chat.generate("The cat")
        with raises("token-unknown", ID, error=TokenizerError):
            chat.generate(f"The {EXTRA} cat")
        with raises("token-unknown", ID, error=TokenizerError):
            chat.embed_text(EXTRA)
        chat.reset_chat()
        assert chat.generate("The cat") == answer
    (said,) = [text for text in caplog.messages if EXTRA in text]
    assert "321 tokens" in said
    assert "320" in said
