"""The chat in a real terminal, as a person has it: keys, lines, history, completion."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("termios", reason="pseudo-terminals are POSIX's")

from .terminal import (
    ALT_ENTER,
    CTRL_C,
    CTRL_D,
    ENTER,
    TAB,
    UP,
    Terminal,
    mode,
    pasted,
)

Start = Callable[..., Terminal]


@pytest.fixture
def chat(start: Start) -> Terminal:
    """A fake chat that has asked for the first entry."""
    terminal = start()
    terminal.expect_prompt()
    return terminal


def leave(terminal: Terminal) -> None:
    terminal.expect_prompt()
    terminal.press(CTRL_D)
    assert terminal.ends() == 0


class TestKeys:
    def test_turns_and_ctrl_d(self, chat: Terminal) -> None:
        chat.enter("Hello")
        chat.expect("\n>>> Hello\n<Hello>\n\n>>>")
        leave(chat)

    def test_ctrl_c_stops_an_answer(self, chat: Terminal) -> None:
        chat.enter("endless")
        chat.expect("\n<")
        chat.press(CTRL_C)
        chat.expect("\n(stopped; ")
        chat.expect_prompt()
        chat.enter("and on")
        chat.expect("<and on>")
        leave(chat)

    def test_ctrl_c_at_the_prompt(self, chat: Terminal) -> None:
        chat.press(CTRL_C)
        chat.expect("Ctrl-D or /exit leaves.")
        chat.expect_prompt()
        chat.press("something")
        chat.expect_prompt(">>> something")
        chat.press(CTRL_C)
        chat.expect_prompt()
        chat.enter("else")
        assert chat.expect("<else>").count("Ctrl-D or /exit leaves.") == 1
        leave(chat)

    def test_tab_completes_a_command(self, chat: Terminal) -> None:
        chat.press("/he", TAB)
        chat.expect_prompt(">>> /help")
        chat.press(ENTER)
        chat.expect("forget the conversation")
        leave(chat)

    def test_tab_shows_the_commands(self, chat: Terminal) -> None:
        chat.press("/", TAB)
        screen = chat.expect("/exit")
        for name in ("/help", "/system [TEXT]", "/reset", "/save FILE", "/load FILE", "/stats"):
            assert name in screen
        chat.press(CTRL_C)
        leave(chat)

    def test_tab_completes_a_file(self, start: Start, tmp_path: Path) -> None:
        (tmp_path / "conversation.json").write_text("no JSON")
        chat = start()
        chat.expect_prompt()
        chat.enter(f"/load conv{TAB}")
        chat.expect("is not valid JSON")
        chat.expect_prompt()
        chat.enter(f"/reset conv{TAB}")
        chat.expect("Nothing follows /reset")
        leave(chat)


class TestSeveralLines:
    @pytest.mark.parametrize(
        "keys",
        [
            ("one", ALT_ENTER, "two", ENTER),
            ("one\\", ENTER, "two", ENTER),
            ('"""one', ENTER, 'two"""', ENTER),
            (pasted("one\ntwo"), ENTER),
            (pasted("one\r\ntwo"), ENTER),
        ],
        ids=["Alt-Enter", "backslash", "quotes", "paste", "paste of Windows"],
    )
    def test_one_entry(self, chat: Terminal, keys: tuple[str, ...]) -> None:
        chat.press(*keys)
        chat.expect("<one|two>")
        assert "\n... " in chat.screen
        leave(chat)

    def test_a_pasted_backslash_stays(self, chat: Terminal) -> None:
        chat.press(pasted("a \\\nb"), ENTER)
        chat.expect("<a \\|b>")
        leave(chat)


class TestHistory:
    def test_in_a_later_chat(self, start: Start, tmp_path: Path) -> None:
        first = start()
        for entry in ("older", "two\\\rlines"):
            first.expect_prompt()
            first.enter(entry)
        first.expect("<two|lines>")
        leave(first)
        file = tmp_path / "state" / "history.jsonl"
        assert (mode(file), mode(file.parent)) == (0o600, 0o700)

        second = start()
        second.expect_prompt()
        second.press(UP)
        second.expect(">>> two\n... lines")
        second.press(UP, UP)
        second.expect_prompt(">>> older")
        second.press(ENTER)
        second.expect("<older>")
        leave(second)

    @pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'{"a": 1}\n["b"]\n"half', b""])
    def test_a_damaged_file(self, start: Start, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "state" / "history.jsonl"
        file.parent.mkdir()
        file.write_bytes(content + b'\n"kept"\n')
        chat = start()
        chat.expect_prompt()
        chat.press(UP)
        chat.expect_prompt(">>> kept")
        chat.enter(" and added")
        chat.expect("<kept and added>")
        leave(chat)
        assert file.read_bytes() == content + b'\n"kept"\n"kept and added"\n'

    def test_where_none_can_be_kept(self, start: Start, tmp_path: Path) -> None:
        (tmp_path / "state").write_text("a file where a folder should be")
        chat = start()
        chat.expect("Warning: No history is kept: ")
        chat.expect_prompt()
        chat.enter("Hello")
        chat.expect("<Hello>")
        chat.expect_prompt()
        chat.press(UP)
        chat.expect_prompt(">>> Hello")
        chat.press(CTRL_C)
        leave(chat)

    def test_none_is_kept_where_none_is_wanted(self, start: Start, tmp_path: Path) -> None:
        chat = start(variables={"MLC_LLM_HISTORY": ""})
        chat.expect_prompt()
        chat.enter("Hello")
        chat.expect("<Hello>")
        leave(chat)
        assert list(tmp_path.iterdir()) == []


class TestPoorTerminals:
    def test_a_dumb_one(self, start: Start) -> None:
        chat = start(variables={"TERM": "dumb"})
        chat.expect_prompt()
        chat.enter("one\\")
        chat.expect_prompt("...")
        chat.enter("two")
        chat.expect("<one|two>")
        chat.expect_prompt()
        chat.press(CTRL_C)
        chat.expect("Ctrl-D or /exit leaves.")
        chat.expect_prompt()
        chat.enter("endless")
        chat.expect("\n<", 2)
        chat.press(CTRL_C)
        chat.expect("(stopped; ")
        leave(chat)

    def test_stdout_is_a_file(self, start: Start, tmp_path: Path) -> None:
        with (tmp_path / "out.txt").open("wb") as file:
            chat = start(stdout=file)
        chat.expect_prompt()
        chat.enter("Hello")
        chat.expect(">>>", 2)
        leave(chat)
        assert (tmp_path / "out.txt").read_text() == "<Hello>\n"


class TestWithAModel:
    LONG = ("--max-gen-len", "60000")
    SHORT = ("--max-gen-len", "12")

    def test_an_answer_is_streamed_and_stopped(
        self, start: Start, options: Any, tmp_path: Path
    ) -> None:
        chat = start(*options, *self.LONG, "--no-history", rows=24)
        screen = chat.expect("Ctrl-D leaves")
        assert f"{Path(options[1]).name} on cpu:0" in screen
        chat.expect_prompt()
        chat.enter("Hello")
        # It would take a minute to its end: what is there now was streamed.
        chat.wait(lambda: chat.last_line.isalpha(), "an answer")
        chat.press(CTRL_C * 5)
        chat.expect("(stopped; ")
        chat.expect_prompt()
        chat.enter("/save conversation.json")
        chat.expect("There is no conversation to save yet.")
        chat.expect_prompt()
        chat.enter("And again")
        chat.wait(lambda: chat.last_line.isalpha(), "an answer")
        chat.press(CTRL_C)
        chat.expect("(stopped; ", 2)
        leave(chat)
        assert list(tmp_path.iterdir()) == []

    def test_a_conversation_goes_on_in_another_process(
        self, start: Start, options: Any, tmp_path: Path
    ) -> None:
        from mlc_llm import ChatModule, GenerationConfig
        from mlc_llm.chat.transcript import read_transcript

        first, second = tmp_path / "first.json", tmp_path / "second.json"
        chat = start(*options, *self.SHORT)
        for entry in ("/system Be sad.", "Hello", f"/save {first}"):
            chat.expect_prompt()
            chat.enter(entry)
        chat.expect("Saved 2 messages")
        leave(chat)

        chat = start(*options, *self.SHORT)
        for entry in (f"/load {first}", "/system", "And then?", f"/save {second}"):
            chat.expect_prompt()
            chat.enter(entry)
        chat.expect("and the keys and values of")
        assert ">>> /system\nBe sad.\n" in chat.expect("Saved 4 messages")
        leave(chat)

        before, after = read_transcript(first).messages, read_transcript(second).messages
        roles = ["system", "user", "assistant", "user", "assistant"]
        assert [message.role for message in after] == roles
        assert after[:3] == before
        with ChatModule(os.fspath(options[1]), "cpu", None, str(options[3])) as module:
            greedy = GenerationConfig(temperature=0, max_gen_len=12)
            assert module.generate(list(after[:4]), greedy) == after[4].content
