"""The turns of a chat: entries in, answers out; on a terminal, through a pipe, or a single one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from mlc_llm.cli.app import remark, show_error
from mlc_llm.cli.chat.commands import Leave, OpenChat, run_command
from mlc_llm.cli.chat.entry import Entry
from mlc_llm.cli.chat.interrupts import Interrupts
from mlc_llm.cli.chat.reading import Reader
from mlc_llm.cli.output import visible
from mlc_llm.errors import MLCError


class ChatSession:
    """Turns of one chat; answers go to stdout, remarks and errors to stderr.

    Args:
        open_chat: the chat.
    """

    def __init__(self, open_chat: OpenChat) -> None:
        self._open_chat = open_chat

    def answer_once(self, prompt: str) -> int:
        """Answer one prompt, in which nothing is a command; returns the exit code."""
        self._open_chat.ask(prompt)
        return 0

    def read_turns(self, lines: Iterable[bytes]) -> int:
        """Take each line as an entry; one that fails is reported, and the others go on.

        Args:
            lines: UTF-8, as a pipe gives them.

        Returns:
            The exit code: 1 when an entry failed.
        """
        code = 0
        for number, line in enumerate(lines, start=1):
            try:
                self._take(_decode(line, number))
            except Leave:
                break
            except OSError:
                # Of stdout, to which nothing can be written any more.
                raise
            except Exception as error:
                show_error(error)
                code = 1
        return code

    def talk(self, read: Reader) -> int:
        """Read entries on the terminal until the user leaves; returns the exit code."""
        self._greet()
        with Interrupts() as interrupts:
            while True:
                try:
                    with interrupts.allowed():
                        text = read()
                except EOFError:
                    return 0
                except KeyboardInterrupt:
                    click.echo("Ctrl-D or /exit leaves.", err=True)
                    continue
                except MLCError as error:
                    show_error(error)
                    continue
                try:
                    with interrupts.allowed():
                        self._take(text)
                except Leave:
                    return 0
                except KeyboardInterrupt:
                    click.echo("(stopped; the conversation goes on as before this turn)", err=True)
                except OSError:
                    raise
                except Exception as error:
                    show_error(error)
                if text.strip():
                    click.echo(err=True)

    def _greet(self) -> None:
        model = self._open_chat.model
        # Of a path the last part: the line is to stay one.
        name = remark(visible(model if "://" in model else Path(model).name or model), bold=True)
        device = self._open_chat.chat.device
        click.echo(f"{name} on {device} · /help shows the commands, Ctrl-D leaves", err=True)

    def _take(self, text: str) -> None:
        """Answer an entry or do what it says; an empty one is nothing."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise MLCError(f"That is not valid UTF-8: {error}.", code="input-undecodable") from None
        entry = Entry.of(text)
        if entry.command is not None:
            run_command(self._open_chat, entry)
        elif entry.text:
            self._open_chat.ask(entry.text)


def _decode(line: bytes, number: int) -> str:
    try:
        return line.decode("utf-8").rstrip()
    except UnicodeDecodeError as error:
        raise MLCError(
            f"Line {number} of the input is not valid UTF-8: {error}.", code="input-undecodable"
        ) from None
