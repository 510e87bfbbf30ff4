"""The turns of a chat, around one that is a small fake."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from mlc_llm.chat.streams import StreamChunk
from mlc_llm.cli.chat.commands import OpenChat
from mlc_llm.cli.chat.reading import Reader, read_plainly
from mlc_llm.cli.chat.session import ChatSession
from mlc_llm.config import ChatConfig, GenerationConfig
from mlc_llm.errors import PromptTooLongError


class EchoChat:
    """Answers with the prompt; knows what happened to it."""

    device = "cpu:0"
    chat_config = ChatConfig(conv_template="echo")
    system_message = None
    messages = ()

    def __init__(self) -> None:
        self.events: list[str] = []

    def stream(self, prompt: str, generation_config: object) -> Generator[StreamChunk, None, None]:
        if prompt == "too long":
            raise PromptTooLongError("The prompt has 9 tokens; 8 fit.")
        if prompt == "broken":
            raise ZeroDivisionError("broken")
        self.events.append(f"open {prompt}")
        try:
            for word in prompt.split(" "):
                if word == "^C":
                    raise KeyboardInterrupt
                yield StreamChunk(f"{word} ")
        finally:
            self.events.append("close")

    def reset_chat(self, config: object) -> None:
        self.events.append("reset")

    def stats(self, verbose: bool) -> str:
        return "many lines" if verbose else "prefill: 1.0 tok/s, decode: 2.0 tok/s"


@pytest.fixture
def chat() -> EchoChat:
    return EchoChat()


@pytest.fixture
def session(chat: EchoChat) -> ChatSession:
    fake: Any = chat
    return ChatSession(OpenChat(fake, "echo", ChatConfig(), GenerationConfig()))


Typed = Callable[..., Reader]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Typed:
    """What reads what the user types: lines, exceptions that happen instead; then Ctrl-D."""

    def prepare(*lines: str | BaseException) -> Reader:
        rest: Iterator[str | BaseException] = iter([*lines, EOFError()])

        def read(prompt: str = "") -> str:
            line = next(rest)
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr("builtins.input", read)
        return read_plainly

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
        lines = b"/stats\n/STATS -v\n/reset\n/?\n/etc/passwd is what\n /exit\n/exit\nnever\n"
        assert session.read_turns(io.BytesIO(lines)) == 0
        out, err = capsys.readouterr()
        assert out.startswith("prefill: 1.0 tok/s, decode: 2.0 tok/s\nmany lines\n/help ")
        assert out.endswith("\n/etc/passwd is what \n/exit \n")
        assert err == "The conversation is forgotten.\n"
        assert chat.events[0] == "reset"
        assert "open never" not in chat.events

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            (b"/rest", "[command-unknown]"),
            (b"/what is this", "[command-unknown]"),
            (b"/reset now", "[command-misused]: "),
            (b"/save", "[command-misused]"),
            (b"/stats -w", "[command-misused]: /stats"),
            (b"/system Be brief.", "[template-without-system]"),
        ],
    )
    def test_a_wrong_command_fails(
        self,
        session: ChatSession,
        chat: EchoChat,
        capsys: pytest.CaptureFixture[str],
        line: bytes,
        message: str,
    ) -> None:
        assert session.read_turns([line, b"fine"]) == 1
        out, err = capsys.readouterr()
        assert out == "fine \n"
        assert message in err
        assert chat.events == ["open fine", "close"]

    def test_a_turn_that_fails_is_told_and_the_next_is_answered(
        self, session: ChatSession, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert session.read_turns(io.BytesIO(b"too long\n\xff\xfe\nbroken\nfine\n")) == 1
        out, err = capsys.readouterr()
        assert out == "fine \n"
        assert "Error [prompt-too-long]: The prompt has 9 tokens; 8 fit." in err
        assert "Error [input-undecodable]: Line 2 " in err
        assert "Error: ZeroDivisionError: broken" in err

    def test_a_reader_that_left_ends_the_chat(self, session: ChatSession, chat: EchoChat) -> None:
        def stream(prompt: str, config: object) -> Generator[StreamChunk, None, None]:
            yield from ()
            raise BrokenPipeError

        chat.stream = stream  # type: ignore[method-assign]
        with pytest.raises(BrokenPipeError):
            session.read_turns([b"a", b"b"])

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
        def stream(prompt: str, config: object) -> Generator[StreamChunk, None, None]:
            yield from (StreamChunk("line\n"), StreamChunk(""))

        chat.stream = stream  # type: ignore[method-assign]
        session.answer_once("x")
        assert capsys.readouterr().out == "line\n"


class TestTerminal:
    def test_ctrl_d_leaves(self, session: ChatSession, chat: EchoChat, typed: Typed) -> None:
        assert session.talk(typed("hello", "")) == 0
        assert chat.events == ["open hello", "close"]

    @pytest.mark.parametrize("command", ["/exit", "/quit", "/bye"])
    def test_exit_leaves(
        self, session: ChatSession, chat: EchoChat, typed: Typed, command: str
    ) -> None:
        assert session.talk(typed(command, "never")) == 0
        assert chat.events == []

    def test_ctrl_c_stops_the_answer_and_not_the_program(
        self,
        session: ChatSession,
        chat: EchoChat,
        typed: Typed,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert session.talk(typed("a ^C b", KeyboardInterrupt(), "again")) == 0
        out, err = capsys.readouterr()
        assert out == "a \nagain \n"
        assert "(stopped;" in err
        assert "Ctrl-D or /exit leaves." in err
        assert chat.events == ["open a ^C b", "close", "open again", "close"]

    def test_a_ctrl_c_that_is_held_down(
        self, session: ChatSession, chat: EchoChat, typed: Typed
    ) -> None:
        """The first one stops the answer; those that follow hit what it left to be done."""

        def stream(prompt: str, config: object) -> Generator[StreamChunk, None, None]:
            try:
                signal.raise_signal(signal.SIGINT)
                yield StreamChunk("never")
            finally:
                for _ in range(3):
                    signal.raise_signal(signal.SIGINT)
                chat.events.append("closed")

        chat.stream = stream  # type: ignore[method-assign]
        assert session.talk(typed("one", "two")) == 0
        assert chat.events == ["closed", "closed"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_errors_go_on(
        self, session: ChatSession, typed: Typed, capsys: pytest.CaptureFixture[str]
    ) -> None:
        wrong = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        assert session.talk(typed("too long", wrong, "a\udcffb", "broken", "fine")) == 0
        out, err = capsys.readouterr()
        assert out == "fine \n"
        assert "8 fit" in err
        assert err.count("not valid UTF-8") == 2
        assert "ZeroDivisionError" in err

    def test_the_prompt_and_the_greeting_stay_out_of_a_file(
        self, session: ChatSession, typed: Typed, capsys: pytest.CaptureFixture[str]
    ) -> None:
        session.talk(typed("hello"))
        out, err = capsys.readouterr()
        assert out == "hello \n"
        assert "echo on cpu:0 · /help shows the commands" in err
        assert ">>> " in err

    def test_several_lines(self, session: ChatSession, chat: EchoChat, typed: Typed) -> None:
        session.talk(typed("one\\", "two", '"""three', "", '/four"""', "five"))
        assert chat.events[::2] == ["open one\ntwo", "open three\n\n/four", "open five"]


def test_control_characters_do_not_reach_a_terminal(
    session: ChatSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = "\x1b]0;title\x07\x9b2J\ta\r\nü"
    session.answer_once(prompt)
    assert capsys.readouterr().out == f"{prompt} \n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    session.answer_once(prompt)
    assert capsys.readouterr().out == "]0;title2J\ta\nü \n"
