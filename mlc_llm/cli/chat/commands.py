"""The slash commands: one table, from which ``/help`` and Tab completion are made, too."""

from __future__ import annotations

import contextlib
import os
import shutil
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc_llm.cli.chat.answering import write_answer
from mlc_llm.cli.chat.entry import Entry
from mlc_llm.cli.chat.sampling import set_sampling
from mlc_llm.cli.output import say
from mlc_llm.errors import MLCError, SavedChatError, unknown

if TYPE_CHECKING:
    from mlc_llm.chat.dialogue import Prompt
    from mlc_llm.chat.saving import RestoredChat
    from mlc_llm.chat_module import ChatModule
    from mlc_llm.config import ChatConfig, GenerationConfig


_NARROWEST = 24
"""Columns that the summaries of ``/help`` have at least."""


class Leave(Exception):
    """The user wants to leave."""


@dataclass
class OpenChat:
    """The chat that the commands act on.

    Args:
        chat: the loaded model with its conversation.
        model: what the user named as the model.
        config: what the user set for the chat, which a reset keeps.
        generation: how answers are generated.
    """

    chat: ChatModule
    model: str
    config: ChatConfig
    generation: GenerationConfig

    def ask(self, prompt: Prompt, **changes: Any) -> None:
        """Write the answer to a prompt, with changes of the settings for this one."""
        generation = self.generation.model_copy(update=changes)
        write_answer(self.chat.stream(prompt, generation))

    def with_system_message(self, text: str) -> ChatConfig:
        """What the user set, with another system message."""
        from mlc_llm.config import ConvConfig

        conversation = self.config.conv_config or ConvConfig()
        changed = conversation.model_copy(update={"system_message": text})
        return self.config.model_copy(update={"conv_config": changed})


@dataclass(frozen=True)
class Command:
    """A slash command.

    Args:
        name: its name, with the slash.
        summary: what it does, for ``/help``.
        run: does it; gets what follows the name, perhaps nothing.
        argument: what may follow the name, as ``/help`` shows it: ``[X]`` may be left out.
        aliases: other names of it.
        takes_file: whether the argument is a file's name.
    """

    name: str
    summary: str
    run: Callable[[OpenChat, str], None]
    argument: str = ""
    aliases: tuple[str, ...] = ()
    takes_file: bool = False

    @property
    def usage(self) -> str:
        """The name and what may follow it."""
        return f"{self.name} {self.argument}".rstrip()


def run_command(open_chat: OpenChat, entry: Entry) -> None:
    """Do what a command says. What it was asked for goes to stdout, remarks go to stderr.

    Raises:
        Leave: it is ``/exit``.
        MLCError: it is unknown, lacks its argument, or failed.
    """
    known = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}
    command = known.get(entry.command or "")
    if command is None:
        names = [command.name for command in COMMANDS]
        hint = "A space before the slash makes it a message."
        raise MLCError(
            f"{unknown('command', str(entry.command), names)} {hint}", code="command-unknown"
        )
    if entry.text and not command.argument:
        raise MLCError(
            f"Nothing follows {command.name}; a space before it makes it a message.",
            code="command-misused",
        )
    if not entry.text and command.argument and not command.argument.startswith("["):
        raise MLCError(f"Something is missing: {command.usage}", code="command-misused")
    command.run(open_chat, entry.text)


def _help(open_chat: OpenChat, argument: str) -> None:
    rows = [(command.usage, command.summary) for command in COMMANDS] + list(KEYS)
    indent = 2 + max(len(usage) for usage, _ in rows)
    room = max(_NARROWEST, shutil.get_terminal_size().columns - indent - 1)
    for usage, summary in rows:
        lines = textwrap.wrap(summary, room)
        say(f"{usage:<{indent}}" + f"\n{'':{indent}}".join(lines))


def _system(open_chat: OpenChat, text: str) -> None:
    chat = open_chat.chat
    if chat.system_message is None:
        raise MLCError(
            "This model's conversation template has no place for a system message.",
            code="template-without-system",
        )
    if not text:
        say(chat.system_message or "There is no system message.", err=not chat.system_message)
        return
    config = open_chat.with_system_message(text)
    chat.reset_chat(config)
    open_chat.config = config
    say("The system message is set, and a new conversation begins.", err=True)


def _reset(open_chat: OpenChat, argument: str) -> None:
    open_chat.chat.reset_chat(open_chat.config)
    say("The conversation is forgotten.", err=True)


def _stats(open_chat: OpenChat, argument: str) -> None:
    if argument not in ("", "-v"):
        raise MLCError(f"/stats takes -v or nothing, not {argument}", code="command-misused")
    say(open_chat.chat.stats(verbose=argument == "-v"))


def _set(open_chat: OpenChat, text: str) -> None:
    for line in set_sampling(open_chat.generation, open_chat.chat.chat_config, text):
        say(line)


def _retry(open_chat: OpenChat, argument: str) -> None:
    """Answer the last message once more, in place of the answer that it has."""
    seed, messages = open_chat.generation.seed, _to_last_question(open_chat)
    if seed is None:
        open_chat.ask(messages)
        return
    # With the same one the answer would be the same.
    open_chat.generation.seed = seed + 1
    open_chat.ask(messages)


def _continue(open_chat: OpenChat, argument: str) -> None:
    open_chat.ask("", continue_final_message=True)


def _prompt(open_chat: OpenChat, text: str) -> None:
    shown = open_chat.chat.render(text or _to_last_question(open_chat))
    say(shown.text)
    say(f"({len(shown.token_ids)} tokens)", err=True)


def _to_last_question(open_chat: OpenChat) -> list[Any]:
    """The conversation up to the user's last message."""
    messages = list(open_chat.chat.messages)
    while messages and messages[-1].role != "user":
        messages.pop()
    if not messages:
        raise MLCError("There is no message of yours yet.", code="chat-empty")
    return messages


def _save(open_chat: OpenChat, name: str) -> None:
    path = _path(name)
    with _file_errors(path):
        saved = open_chat.chat.save(path)
    beside = ""
    if saved.cache_file is not None:
        beside = f", and their keys and values ({_size(saved.nbytes)}) to {saved.cache_file}"
    say(f"Saved {_count(saved.messages)} to {path}{beside}.", err=True)


def _load(open_chat: OpenChat, name: str) -> None:
    chat, path = open_chat.chat, _path(name)
    with _file_errors(path):
        restored = chat.load(path)
    texts = [message.content for message in chat.messages if message.role == "system"]
    system = "\n\n".join(texts)
    if texts and chat.system_message is not None:
        open_chat.config = open_chat.with_system_message(system)
    say(f"Loaded {_count(restored.messages)}{_what_is_left(restored)}.", err=True)
    if system and chat.system_message is None:
        say("Its system message is left out: this model has no place for one.", err=True)
    if restored.other_model:
        say(f"It was with {restored.other_model}; this is {open_chat.model}.", err=True)


@contextlib.contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file that was named, the chat goes on."""
    try:
        yield
    except MLCError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name that no system takes
        reason = getattr(error, "strerror", None) or error
        raise SavedChatError(f"{path} cannot be used: {reason}.", code="path-invalid") from error


def _what_is_left(restored: RestoredChat) -> str:
    """What the next turn reads of a conversation that was loaded; why is in the log."""
    if not restored.tokens:
        return "; the next turn reads all of it again"
    left = restored.prompt_tokens - restored.tokens
    return (
        f", and the keys and values of {restored.tokens} of {restored.prompt_tokens} tokens; the "
        f"next turn reads the other {left}"
    )


def _exit(open_chat: OpenChat, argument: str) -> None:
    raise Leave


def _count(messages: int) -> str:
    return f"{messages} message{'s' if messages != 1 else ''}"


def _size(nbytes: int) -> str:
    return f"{nbytes / 2**20:.1f} MiB" if nbytes >= 2**20 else f"{nbytes / 2**10:.1f} KiB"


def _path(name: str) -> Path:
    """The file that a name means; quotes around it, as other programs need them, are dropped."""
    if len(name) > 2 and name[0] == name[-1] and name[0] in "'\"":
        name = name[1:-1]
    return Path(os.path.expanduser(name))  # noqa: PTH111 (does not fail on an unknown ~user)


COMMANDS = (
    Command("/help", "show this", _help, aliases=("/?",)),
    Command(
        "/system", "begin afresh with this system message; without it, show it", _system, "[TEXT]"
    ),
    Command("/retry", "answer your last message again, in place of the last answer", _retry),
    Command("/continue", "go on with the last answer, as when it was cut", _continue),
    Command(
        "/set",
        "set how answers are generated, as in /set temperature 0; without a value, show it",
        _set,
        "[NAME [VALUE]]",
    ),
    Command(
        "/prompt",
        "show what the model is given for a text, or was given last",
        _prompt,
        "[TEXT]",
    ),
    Command("/reset", "forget the conversation", _reset, aliases=("/clear",)),
    Command("/save", "write the conversation to a file", _save, "FILE", takes_file=True),
    Command("/load", "go on with a conversation from a file", _load, "FILE", takes_file=True),
    Command("/stats", "show the speed since the last /reset; -v shows more", _stats, "[-v]"),
    Command("/exit", "leave", _exit, aliases=("/quit", "/bye")),
)

KEYS = (
    ("Ctrl-C", "stop an answer; at the prompt, drop what is typed"),
    ("Ctrl-D", "leave"),
    ("Alt-Enter", "begin a new line; so does Enter after a backslash"),
    ('"""', "begins and ends text of several lines"),
    ("Up, Ctrl-R", "earlier entries; search them"),
)
