"""The chat's conversation with its user: prompts in, answers out, slash commands."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from mlc_llm.cli.app import show_error
from mlc_llm.errors import MLCError, unknown

if TYPE_CHECKING:
    from mlc_llm.chat_module import ChatModule
    from mlc_llm.config import GenerationConfig

PROMPT = ">>> "
HELP = """\
/help   show this
/reset  forget the conversation
/stats  show the speed since the last /reset
/exit   leave (so does Ctrl-D)
Ctrl-C  stop an answer"""
COMMANDS = ("/exit", "/help", "/reset", "/stats")


class ChatSession:
    """Turns of one chat; answers go to stdout, remarks and errors to stderr.

    Args:
        chat: the loaded model.
        generation: how answers are generated.
    """

    def __init__(self, chat: ChatModule, generation: GenerationConfig) -> None:
        self._chat = chat
        self._generation = generation

    def answer_once(self, prompt: str) -> int:
        """Answer one prompt; returns the exit code."""
        self._answer(prompt)
        return 0

    def read_turns(self, lines: Iterable[bytes]) -> int:
        """Take each line as a turn; a turn that fails is reported, and the others go on.

        Args:
            lines: UTF-8, as a pipe gives them.

        Returns:
            The exit code: 1 when a turn failed.
        """
        code = 0
        for number, line in enumerate(lines, start=1):
            try:
                if not self._turn(_decode(line, number)):
                    break
            except MLCError as error:
                show_error(error)
                code = 1
        return code

    def talk(self) -> int:
        """Ask for turns on the terminal until the user leaves; returns the exit code."""
        with contextlib.suppress(ImportError):
            # Editing and a history of the lines, where Python has it.
            import readline  # noqa: F401
        click.echo("/help shows the commands.", err=True)
        while True:
            try:
                line = self._read_line()
            except UnicodeDecodeError as error:
                click.echo(f"That is not valid UTF-8: {error}.", err=True)
                continue
            except EOFError:
                click.echo(err=True)
                return 0
            except KeyboardInterrupt:
                click.echo("\n/exit or Ctrl-D leaves.", err=True)
                continue
            try:
                if not self._turn(line.strip()):
                    return 0
            except KeyboardInterrupt:
                click.echo("\n(stopped)", err=True)
            except MLCError as error:
                show_error(error)

    def _read_line(self) -> str:
        # With a prompt, input() writes it on stdout: only where that is the terminal.
        if sys.stdout.isatty():
            return input(PROMPT)
        click.echo(PROMPT, nl=False, err=True)
        return input()

    def _turn(self, line: str) -> bool:
        """Answer a line or do what it says; returns whether to go on."""
        if line == "/exit":
            return False
        if line == "/help":
            click.echo(HELP)
        elif line == "/reset":
            self._chat.reset_chat()
            click.echo("The conversation is forgotten.", err=True)
        elif line == "/stats":
            click.echo(self._chat.stats())
        elif line.startswith("/") and line[1:].isalpha():
            click.echo(unknown("command", line, COMMANDS), err=True)
        elif line:
            self._answer(line)
        return True

    def _answer(self, prompt: str) -> None:
        """Stream an answer to stdout; an interrupted one is closed, so that the chat goes on."""
        last = ""
        stream = self._chat.stream(prompt, self._generation)
        try:
            for delta in stream:
                sys.stdout.write(delta)
                sys.stdout.flush()
                last = delta or last
        finally:
            stream.close()
        if not last.endswith("\n"):
            click.echo()


def _decode(line: bytes, number: int) -> str:
    try:
        return line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise MLCError(f"Line {number} of the input is not valid UTF-8: {error}.") from None
