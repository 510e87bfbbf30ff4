"""The end of a chat, and what plugins are told of its life."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from mlc_llm import ChatConfig, ChatModule, GenerationConfig
from mlc_llm.cli.bench.process_memory import resident_bytes
from mlc_llm.errors import GenerationError
from mlc_llm.testing import raises

from .conftest import Loader

GREEDY = ChatConfig(temperature=0.0)


class TestEnding:
    def test_a_closed_chat_says_so(self, load: Loader) -> None:
        chat = load()
        with chat as same:
            assert same is chat
            chat.generate("Hello")
        chat.close()
        assert "closed" in repr(chat)
        assert chat.stats().startswith("prefill: ")  # what was measured can still be read
        assert len(chat.messages) == 0
        for call in (
            lambda: chat.generate("Hello"),
            lambda: list(chat.stream("Hello")),
            lambda: asyncio.run(chat.agenerate("Hello")),
            lambda: chat.embed_text("Hello"),
            lambda: chat.reset_chat(),
            lambda: chat.benchmark_generate("Hello", 3),
        ):
            with raises("chat-closed", error=GenerationError):
                call()

    def test_closing_stops_what_runs(self, load: Loader) -> None:
        chat = load(max_gen_len=400)
        stream = chat.stream("Once upon a time")
        next(stream)
        chat.close()
        with raises("chat-closed", error=GenerationError):
            for _ in stream:
                pass

    def test_a_dropped_chat_ends_its_thread(self, folder: Path, library: str) -> None:
        chat = ChatModule(str(folder), "cpu", GREEDY, library)
        chat.generate("Hello", GenerationConfig(max_gen_len=2))
        engine, model = chat._chat.engine, weakref.ref(chat._chat.model)
        del chat
        gc.collect()
        assert not engine.alive
        assert model() is None


@pytest.mark.skipif(resident_bytes() is None, reason="only Linux tells how much memory is used")
class TestMemory:
    def test_prompts_of_ever_new_lengths_keep_no_memory(self, load: Loader) -> None:
        """TVM's pool of memory would keep 80 MB here: what each of the lengths took."""
        chat = load(max_gen_len=1)
        chat.generate("a" * 500)
        before = _resident()
        for length in range(10, 490):
            chat.generate("a" * length, stateless=True)
            chat.generate("b", stateless=True)  # or the next prompt would share its beginning
        assert _resident() - before < 30e6


def _resident() -> int:
    resident = resident_bytes()
    assert resident is not None
    return resident


class TestHooks:
    def test_providers_are_told(
        self, folder: Path, library: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from mlc_llm.registry.registry import Registry

        told: list[tuple[str, dict[str, Any]]] = []
        monkeypatch.setattr(
            Registry, "notify", lambda self, hook, **arguments: told.append((hook, arguments))
        )
        with ChatModule(str(folder), "cpu", GREEDY, library) as chat:
            answer = chat.generate("Hello", GenerationConfig(max_gen_len=2))
            list(chat.stream("Hello", GenerationConfig(max_gen_len=2)))
            several = chat.generate("Hello", GenerationConfig(n=2, max_gen_len=2))
            asyncio.run(chat.agenerate("Hello", GenerationConfig(max_gen_len=2)))
            stream = chat.stream("Hello")
            next(stream)
            stream.close()
        hooks = [hook.removeprefix("mlc_llm_chat_") for hook, _ in told]
        assert hooks == ["loaded", *["generated"] * 4, "closed"]  # none for the closed one
        assert all(arguments["chat"] is chat for _, arguments in told)
        assert told[1][1]["prompt"] == "Hello"
        assert told[1][1]["output"] == told[2][1]["output"] == told[4][1]["output"] == answer
        assert told[3][1]["output"] == several


LOADS = """
import ctypes, gc, sys

class Statistics(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "used",
                 "free", "keepcost")]

def used():
    gc.collect()
    count = ctypes.CDLL(None).mallinfo2
    count.restype = Statistics
    return count().used

from mlc_llm import ChatModule

def load(times):
    for _ in range(times):
        ChatModule("demo", device="cpu").close()

load(3)
before = used()
load(30)
print(used() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="needs the statistics of GNU's C library",
)
def test_loads_and_closes_leave_nothing() -> None:
    """TVM keeps each library that is loaded, 120 KiB of the demo's, unless it is told not to."""
    result = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 30 * 8 * 1024
