"""Ctrl-C, in this program and in others; the chat goes on afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlc_llm import ChatModule

from .conftest import CHAT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")

PROGRAM = """
import asyncio, sys, threading
sys.modules['torch'] = None  # TVM imports it where it is installed, which takes a second
from mlc_llm import ChatConfig, ChatModule
config = ChatConfig(temperature=0.0, max_gen_len=20, conv_template={template!r})
chat = ChatModule({folder!r}, "cpu", config, {library!r})
decode, count = chat._chat.model.functions.decode, 0
def slow_decode(runs):
    global count
    count += 1
    if count == 3:
        print("generating", flush=True)
        threading.Event().wait(1)
    return decode(runs)
chat._chat.model.functions.decode = slow_decode
for call in (
    lambda: chat.generate("Once"),
    lambda: list(chat.stream("Once")),
    lambda: asyncio.run(chat.agenerate("Once")),
):
    count = 0
    try:
        call()
    except KeyboardInterrupt:
        print("interrupted", len(chat.messages), chat.results[0].finish_reason, flush=True)
count = 3
print(bool(chat.generate("Once")), len(chat.messages), flush=True)
"""


def test_in_a_callback(told: ChatModule) -> None:
    before = told.messages

    def callback(message: str, stopped: bool) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        told.generate("And then?", progress_callback=callback)
    assert told.messages == before
    assert told.generate("And then?")


def test_in_a_program(folder: Path, library: str) -> None:
    """The signal comes from outside, in the middle of a generation without a callback."""
    program = PROGRAM.format(folder=str(folder), library=library, template=CHAT)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TVM_USE_RUNTIME_LIB": "1"},
    ) as process:
        assert process.stdout is not None
        for _ in ("generate", "stream", "agenerate"):
            assert process.stdout.readline() == "generating\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted 0 cancelled\n"
        assert process.communicate(timeout=60) == ("True 2\n", "")
    assert process.returncode == 0
