"""Saved conversations: their messages, and their keys and values."""

from __future__ import annotations

import shutil
from functools import cached_property
from pathlib import Path
from random import Random

from fuzz.mutation.headed import mutate_headed
from fuzz.mutation.json_text import json_bytes
from fuzz.subject import Case, Subject
from fuzz.subjects.demo import demo
from mlc_llm.chat.saving import CACHE_SUFFIX
from mlc_llm.errors import SavedChatError
from mlc_llm.files import read_json_object

_FILE = "chat.json"


def _save_one(folder: Path) -> None:
    """Save a conversation of one turn."""
    chat = demo()
    chat.reset_chat()
    chat.generate("What is 1+1?")
    chat.save(folder / _FILE)


class Transcripts(Subject):
    """A file of messages is loaded, goes on, and is saved again."""

    name = "transcript"

    def seeds(self) -> list[Case]:
        folder = Path.cwd() / "saved"
        folder.mkdir(exist_ok=True)
        _save_one(folder)
        older = {
            "version": 1,
            "model": "another",
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
            ],
        }
        return [{_FILE: (folder / _FILE).read_bytes()}, {_FILE: json_bytes(older)}]

    def feed(self, folder: Path) -> None:
        chat = demo()
        chat.load(folder / _FILE)
        chat.render("And?")
        if said := _said():
            chat.save(folder / "again.json")
            chat.load(folder / "again.json")
            assert _said() == said


def _said() -> list[tuple[str, str | None]]:
    """What has been said; several system messages are saved as one."""
    chat = demo()
    turns = [(m.role, m.content) for m in chat.messages if m.role != "system"]
    return [("system", chat.system_message), *turns] if turns else []


class SavedPaths(Subject):
    """Files that a conversation is saved to, and loaded from."""

    name = "saved-path"
    share = 0.2

    def seeds(self) -> list[Case]:
        return [{"path.json": json_bytes({"path": path})} for path in ("a.json", "b c", "x.kv")]

    def feed(self, folder: Path) -> None:
        name = read_json_object(folder / "path.json", SavedChatError).get("path")
        if not isinstance(name, str) or name.startswith("/") or ".." in name:
            return  # It would be written to, whatever is there.
        chat = demo()
        chat.messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
        errors = []
        for act in (chat.save, chat.load):
            try:
                act(folder / name)
            except SavedChatError as error:
                errors.append(error)
        assert [m.content for m in chat.messages if m.role != "system"] == ["Hi", "Ho"]
        if errors:
            raise errors[0]


class CacheFiles(Subject):
    """Damaged keys and values are never restored: what differs from the file that was saved, in
    any byte that is restored, is refused."""

    name = "cache-file"

    def seeds(self) -> list[Case]:
        return [{_FILE + CACHE_SUFFIX: self._saved}]

    @cached_property
    def _folder(self) -> Path:
        folder = Path.cwd() / "saved"
        folder.mkdir(exist_ok=True)
        _save_one(folder)
        return folder

    @cached_property
    def _saved(self) -> bytes:
        return (self._folder / (_FILE + CACHE_SUFFIX)).read_bytes()

    def mutate(self, name: str, content: bytes, random: Random) -> bytes:
        return mutate_headed(content, random)

    def feed(self, folder: Path) -> None:
        file = folder / (_FILE + CACHE_SUFFIX)
        shutil.copy(self._folder / _FILE, folder / _FILE)
        chat, given = demo(), file.read_bytes()
        restored = chat.load(folder / _FILE)
        if restored.tokens:
            assert _data(given) == _data(self._saved)
        else:
            assert given != self._saved
            assert restored.reason
        chat.save(folder / "again.json")


def _data(file: bytes) -> bytes:
    """What follows the header."""
    return file[8 + int.from_bytes(file[:8], "little") :]
