"""A small chat that needs no data, and the trained models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlc_llm import ChatConfig, ChatModule

from .small_model import write_small_checkpoint

CHAT = {
    "name": "plain",
    "system_template": "{system_message}\n",
    "system_message": "Tell a story.",
    "system_prefix_token_ids": [1],
    "roles": {"user": "Tom", "assistant": "Lily"},
    "role_content_sep": " said: ",
    "role_empty_sep": " said:",
    "seps": ["\n"],
}
"""A template with memory whose prompts are short."""

Loader = Callable[..., ChatModule]


def held(chat: ChatModule) -> tuple[int, ...]:
    """The tokens of the last answer and of its prompt, as the KV cache remembers them."""
    known = {page.number: page for page in chat._chat.model.cache._prefixes._known.values()}
    tokens: tuple[int, ...] = ()
    page = known.get(max(known, default=0))
    while page is not None:
        tokens = page.content[0] + tokens
        page = known.get(page.before)
    return tokens


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model in the Hugging Face layout, with a token for each byte."""
    folder = tmp_path_factory.mktemp("small-checkpoint")
    write_small_checkpoint(folder)
    return folder


@pytest.fixture(scope="session")
def folder(checkpoint: Path, make_model: Any) -> Path:
    """The small model's folder; its window is 512 tokens, its template LM."""
    path: Path = make_model(checkpoint, "q0f32")
    return path


@pytest.fixture(scope="session")
def library(folder: Path, make_library: Any) -> str:
    return str(make_library(folder))


@pytest.fixture
def load(folder: Path, library: str) -> Iterator[Loader]:
    """Load the small model with any fields of ``ChatConfig``; greedy, unless told otherwise."""
    opened: list[ChatModule] = []

    def make(**config: Any) -> ChatModule:
        settings = ChatConfig(**{"temperature": 0.0, "max_gen_len": 24, **config})
        opened.append(ChatModule(str(folder), "cpu", settings, library))
        return opened[-1]

    yield make
    for chat in opened:
        chat.close()


@pytest.fixture
def chat(load: Loader) -> ChatModule:
    """A greedy chat with memory."""
    return load(conv_template=CHAT)


@pytest.fixture
def told(chat: ChatModule) -> ChatModule:
    """The same with one turn of history."""
    chat.generate("The cat")
    return chat
