"""The line editor of a terminal: history, several lines, completion with Tab.

Only this module knows prompt_toolkit, and it is imported only where a terminal asks for entries.
"""

from __future__ import annotations

from collections.abc import Iterable

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_completions, has_focus
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output
from prompt_toolkit.styles import Style

from mlc_llm.cli.chat.commands import COMMANDS
from mlc_llm.cli.chat.entry import is_open
from mlc_llm.cli.chat.history_file import HistoryFile
from mlc_llm.cli.chat.reading import CONTINUATION, PROMPT

_STYLE = Style.from_dict({"mark": "bold ansicyan", "more": "ansibrightblack"})


class LineEditor:
    """Reads entries.

    Args:
        history: where entries are kept; None keeps them for this chat only.
    """

    def __init__(self, history: HistoryFile | None) -> None:
        completer = CommandCompleter()
        self._session: PromptSession[str] = PromptSession(
            [("class:mark", PROMPT)],
            multiline=True,
            prompt_continuation=[("class:more", CONTINUATION)],
            history=_Entries(history),
            completer=completer,
            complete_while_typing=False,
            key_bindings=_bindings(completer),
            style=_STYLE,
            enable_suspend=True,
            enable_open_in_editor=True,
            tempfile_suffix=".md",
            # The other one of stdout and stderr where one is not a terminal.
            output=create_output(always_prefer_tty=True),
        )

    def read(self) -> str:
        """Read an entry; see :data:`mlc_llm.cli.chat.reading.Reader`."""
        return self._session.prompt()


class CommandCompleter(Completer):
    """Completes the names of commands, and of files where a command takes one."""

    def __init__(self) -> None:
        self._files = PathCompleter(expanduser=True)

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """What may stand where the cursor is."""
        text = document.text_before_cursor
        name, space, argument = text.partition(" ")
        if not name.startswith("/") or "\n" in text:
            return
        if space:
            if any(command.name == name and command.takes_file for command in COMMANDS):
                file = Document(argument.lstrip())
                yield from self._files.get_completions(file, complete_event)
            return
        for command in COMMANDS:
            if command.name.startswith(name):
                end = " " if command.argument and not command.argument.startswith("[") else ""
                yield Completion(
                    command.name + end,
                    start_position=-len(name),
                    display=command.usage,
                    display_meta=command.summary,
                )


class _Entries(History):
    """prompt_toolkit's view of the history."""

    def __init__(self, file: HistoryFile | None) -> None:
        super().__init__()
        self._file = file

    def load_history_strings(self) -> Iterable[str]:
        try:
            return reversed(self._file.load() if self._file else [])
        except OSError:
            return []

    def store_string(self, string: str) -> None:
        if self._file:
            self._file.append(string)


def _bindings(completer: Completer) -> KeyBindings:
    """The keys that differ from prompt_toolkit's own, which are those of Emacs and readline."""
    keys = KeyBindings()
    in_entry = has_focus(DEFAULT_BUFFER)

    @keys.add("enter", filter=in_entry)
    def _enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state and buffer.complete_state.current_completion:
            buffer.complete_state = None
        elif buffer.document.char_before_cursor == "\\":
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        elif is_open(buffer.text):
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter", filter=in_entry)
    def _newline(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    @keys.add("tab", filter=in_entry & ~has_completions)
    def _complete(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        found = list(completer.get_completions(buffer.document, CompleteEvent()))
        if len(found) == 1:
            # At once: prompt_toolkit's own completion comes after keys that follow quickly.
            buffer.apply_completion(found[0])
        else:
            buffer.start_completion(insert_common_part=True)

    @keys.add("c-c", filter=in_entry)
    @keys.add("<sigint>")
    def _interrupt(event: KeyPressEvent) -> None:
        if event.app.current_buffer.text:
            event.app.exit(result="", style="class:aborting")
        else:
            event.app.exit(exception=KeyboardInterrupt, style="class:aborting")

    return keys
