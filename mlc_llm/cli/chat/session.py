"""The turns of a chat: entries in, answers out; on a terminal, through a pipe, or a single one."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from mlc_llm.cli.app import remark, show_error
from mlc_llm.cli.chat.commands import Leave, OpenChat, run_command
from mlc_llm.cli.chat.entry import Entry
from mlc_llm.cli.chat.interrupts import Interrupts
from mlc_llm.cli.chat.reading import Reader
from mlc_llm.errors import MLCError
from mlc_llm.version import __version__

if TYPE_CHECKING:
    from mlc_llm.config import GenerationConfig

_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
"""Characters that would be commands for the terminal; a model has none to give."""


class ChatSession:
    """Turns of one chat; answers go to stdout, remarks and errors to stderr.

    Args:
        open_chat: the chat.
        generation: how answers are generated.
    """

    def __init__(self, open_chat: OpenChat, generation: GenerationConfig) -> None:
        self._open_chat = open_chat
        self._generation = generation

    def answer_once(self, prompt: str) -> int:
        """Answer one prompt, in which nothing is a command; returns the exit code."""
        self._answer(prompt)
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
        chat = self._open_chat.chat
        template = chat.chat_config.conv_template
        if isinstance(template, dict):
            template = template.get("name") or "of its own"
        name = remark(self._open_chat.model, bold=True)
        click.echo(
            f"\nmlc_llm {__version__} · {name} on {chat.device} · template {template}\n"
            "/help shows the commands, Ctrl-C stops an answer, Ctrl-D leaves.\n",
            err=True,
        )

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
            self._answer(entry.text)

    def _answer(self, prompt: str) -> None:
        """Stream an answer to stdout; an interrupted one is closed, so that the chat goes on."""
        on_terminal = sys.stdout.isatty()
        last = ""
        stream = self._open_chat.chat.stream(prompt, self._generation)
        try:
            for chunk in stream:
                text = chunk.translate(_CONTROLS) if on_terminal else chunk
                last = text or last
                sys.stdout.write(text)
                sys.stdout.flush()
        except KeyboardInterrupt:
            if last or on_terminal:
                click.echo()
            raise
        finally:
            stream.close()
        if not last.endswith("\n"):
            click.echo()


def _decode(line: bytes, number: int) -> str:
    try:
        return line.decode("utf-8").rstrip()
    except UnicodeDecodeError as error:
        raise MLCError(
            f"Line {number} of the input is not valid UTF-8: {error}.", code="input-undecodable"
        ) from None
