"""Terminals with a chat in them, and a small model whose answers are long."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FAKE_CHAT = """
import threading
from mlc_llm.chat.transcript import read_transcript
from mlc_llm.cli.chat.commands import OpenChat
from mlc_llm.cli.chat.history_file import history_path
from mlc_llm.cli.chat.reading import open_reader
from mlc_llm.cli.chat.session import ChatSession
from mlc_llm.cli.app import log_to_stderr
from mlc_llm.chat.streams import StreamChunk
from mlc_llm.config import ChatConfig, GenerationConfig

class Chat:
    device, chat_config, system_message, messages = "cpu:0", ChatConfig(), None, ()
    def stream(self, prompt, config):
        yield StreamChunk("<")
        if prompt == "endless":
            threading.Event().wait()
        yield StreamChunk(f"{prompt.replace(chr(10), '|')}>")
    def load(self, path):
        read_transcript(path)

log_to_stderr()
session = ChatSession(OpenChat(Chat(), "fake", ChatConfig(), GenerationConfig()))
raise SystemExit(session.talk(open_reader(history_path())))
"""
"""A chat that answers with the prompt on one line."""

CHAT = {
    "name": "tom-and-lily",
    "system_template": "{system_message}\n",
    "system_message": "Tell a story.",
    "roles": {"user": "Tom", "assistant": "Lily"},
    "role_content_sep": ": ",
    "role_empty_sep": ": ",
    "seps": ["\n"],
}

Start = Callable[..., Any]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start ``mlc_llm`` with arguments in a terminal; without any, a fake chat.

    ``variables`` are set in its environment. It works, and keeps the history, in the test's folder.
    """
    if sys.platform == "win32":
        pytest.skip("pseudo-terminals are POSIX's")
    from .terminal import Terminal

    opened: list[Terminal] = []

    def run(
        *arguments: object, variables: dict[str, str] | None = None, **options: Any
    ) -> Terminal:
        program = ["-m", "mlc_llm", *map(str, arguments)] if arguments else ["-c", FAKE_CHAT]
        history = {"MLC_LLM_HISTORY": str(tmp_path / "state" / "history.jsonl")}
        opened.append(Terminal(program, {**history, **(variables or {})}, tmp_path, **options))
        return opened[-1]

    yield run
    for terminal in opened:
        terminal.close()


@pytest.fixture(scope="session")
def talkative(make_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that writes small letters and never stops: its answers end at their limit."""
    from safetensors.numpy import load_file, save_file

    from mlc_llm.testing.model_folder import FIRST_BYTE, make_checkpoint

    shape = {"max_position_embeddings": 65536}
    checkpoint = make_checkpoint(tmp_path_factory.mktemp("talkative"), **shape)
    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    letters = FIRST_BYTE + np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)
    head = np.zeros_like(tensors["lm_head.weight"])
    head[letters] = tensors["lm_head.weight"][letters]
    save_file({**tensors, "lm_head.weight": head}, file)
    sizes = {"context_window_size": 65536, "prefill_chunk_size": 256}
    folder: Path = tmp_path_factory.mktemp("model") / "talkative"
    shutil.copytree(make_model(checkpoint, "q0f32", **sizes), folder)
    config = json.loads((folder / "mlc-chat-config.json").read_text())
    config["conv_template"] = CHAT
    (folder / "mlc-chat-config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def options(talkative: Path, make_library: Any) -> tuple[object, ...]:
    """What comes after ``mlc_llm`` to chat with it."""
    return ("chat", talkative, "--model-lib", make_library(talkative), "--temperature", "0")
