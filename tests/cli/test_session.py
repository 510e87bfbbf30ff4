"""The conversation with the user, around a chat that is a small fake."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.cli.session import ChatSession
from mlc_llm.config import GenerationConfig
from mlc_llm.errors import PromptTooLongError


class EchoChat:
    """Answers with the prompt; knows what happened to it."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def stream(self, prompt: str, generation_config: object) -> Generator[str, None, None]:
        if prompt == "too long":
            raise PromptTooLongError("The prompt has 9 tokens; 8 fit.")
        self.events.append(f"open {prompt}")
        try:
            for word in prompt.split():
                if word == "^C":
                    raise KeyboardInterrupt
                yield f"{word} "
        finally:
            self.events.append("close")

    def reset_chat(self) -> None:
        self.events.append("reset")

    def stats(self) -> str:
        return "prefill: 1.0 tok/s, decode: 2.0 tok/s"


@pytest.fixture
def chat() -> EchoChat:
    return EchoChat()


@pytest.fixture
def session(chat: EchoChat) -> ChatSession:
    fake: Any = chat
    return ChatSession(fake, GenerationConfig())


Type = Callable[..., None]


@pytest.fixture
def type_lines(monkeypatch: pytest.MonkeyPatch) -> Type:
    """What the user types, line by line; an exception is what happens instead; then Ctrl-D."""

    def prepare(*lines: str | BaseException) -> None:
        rest: Iterator[str | BaseException] = iter([*lines, EOFError()])

        def read(prompt: str = "") -> str:
            line = next(rest)
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr("builtins.input", read)

    return prepare


class TestPipes:
    def test_each_line_is_a_turn(
        self, session: ChatSession, chat: EchoChat, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert session.read_turns(io.BytesIO("one two\n\n  \r\nthree ü".encode())) == 0
        assert capsys.readouterr() == ("one two \nthree ü \n", "")
        assert chat.events == ["open one two", "close", "open three ü", "close"]

    def test_commands(
        self, session: ChatSession, chat: EchoChat, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lines = b"/stats\n/reset\n/rest\n/help\n/etc/passwd is what\n/exit\nnever\n"
        assert session.read_turns(io.BytesIO(lines)) == 0
        out, err = capsys.readouterr()
        assert out.startswith("prefill: 1.0 tok/s, decode: 2.0 tok/s\n/help ")
        assert out.endswith("/etc/passwd is what \n")
        assert "The conversation is forgotten." in err
        assert "Unknown command '/rest'. Did you mean '/reset'" in err
        assert chat.events[0] == "reset"
        assert "open never" not in chat.events

    def test_a_turn_that_fails_is_told_and_the_next_is_answered(
        self, session: ChatSession, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert session.read_turns(io.BytesIO(b"too long\n\xff\xfe\nfine\n")) == 1
        out, err = capsys.readouterr()
        assert out == "fine \n"
        assert "Error: The prompt has 9 tokens; 8 fit." in err
        assert "Error: Line 2 of the input is not valid UTF-8" in err

    def test_ctrl_c_ends_the_program(self, session: ChatSession, chat: EchoChat) -> None:
        with pytest.raises(KeyboardInterrupt):
            session.read_turns(io.BytesIO(b"a ^C b\n"))
        assert chat.events == ["open a ^C b", "close"]

    def test_one_prompt(self, session: ChatSession, capsys: pytest.CaptureFixture[str]) -> None:
        assert session.answer_once("hello") == 0
        assert capsys.readouterr() == ("hello \n", "")

    def test_an_answer_that_ends_its_line_gets_no_other_end(
        self, session: ChatSession, chat: EchoChat, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def stream(prompt: str, config: object) -> Generator[str, None, None]:
            yield from ("line\n", "")

        chat.stream = stream  # type: ignore[method-assign]
        session.answer_once("x")
        assert capsys.readouterr().out == "line\n"


class TestTerminal:
    def test_ctrl_d_leaves(self, session: ChatSession, chat: EchoChat, type_lines: Type) -> None:
        type_lines("hello", "")
        assert session.talk() == 0
        assert chat.events == ["open hello", "close"]

    def test_exit_leaves(self, session: ChatSession, chat: EchoChat, type_lines: Type) -> None:
        type_lines("/exit", "never")
        assert session.talk() == 0
        assert chat.events == []

    def test_ctrl_c_stops_the_answer_and_not_the_program(
        self,
        session: ChatSession,
        chat: EchoChat,
        type_lines: Type,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        type_lines("a ^C b", KeyboardInterrupt(), "again")
        assert session.talk() == 0
        out, err = capsys.readouterr()
        assert out == "a again \n"
        assert "(stopped)" in err
        assert "/exit or Ctrl-D leaves." in err
        assert chat.events == ["open a ^C b", "close", "open again", "close"]

    def test_errors_go_on(
        self, session: ChatSession, type_lines: Type, capsys: pytest.CaptureFixture[str]
    ) -> None:
        wrong = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        type_lines("too long", wrong, "fine")
        assert session.talk() == 0
        out, err = capsys.readouterr()
        assert out == "fine \n"
        assert "8 fit" in err
        assert "not valid UTF-8" in err

    def test_the_prompt_stays_out_of_a_file(
        self, session: ChatSession, type_lines: Type, capsys: pytest.CaptureFixture[str]
    ) -> None:
        type_lines("hello")
        session.talk()
        out, err = capsys.readouterr()
        assert out == "hello \n"
        assert ">>> " in err


SCRIPT = """
import threading
from mlc_llm.cli.session import ChatSession
class Chat:
    def stream(self, prompt, config):
        yield "begun "
        if prompt == "endless":
            threading.Event().wait()
raise SystemExit(ChatSession(Chat(), None).talk())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
def test_a_real_terminal(tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(theirs)
    shown = b""

    def expect(text: bytes) -> None:
        nonlocal shown
        while text not in shown:
            shown += os.read(ours, 1024)
        shown = shown.partition(text)[2]

    expect(b">>> ")
    os.write(ours, b"endless\n")
    expect(b"begun ")
    os.write(ours, b"\x03")
    expect(b"(stopped)")
    expect(b">>> ")
    os.write(ours, b"short\n")
    expect(b"begun ")
    expect(b">>> ")
    os.write(ours, b"\x04")
    assert process.wait() == 0
    os.close(ours)


def _take_terminal() -> None:
    """Make stdin the session's terminal, so that Ctrl-C reaches the process."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
