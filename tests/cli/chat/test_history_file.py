"""The file of earlier entries; what is typed into it is in ``test_terminal.py``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_llm.cli.chat.history_file import ENTRIES, LARGEST, VARIABLE, HistoryFile, history_path


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    path = history_path()
    assert path is not None
    assert (path.parent.name, path.name) == ("mlc_llm", "chat_history.jsonl")
    if sys.platform == "linux":
        assert path.parent.parent == tmp_path
    monkeypatch.setenv(VARIABLE, "~/mine")
    assert history_path() == Path.home() / "mine"
    monkeypatch.setenv(VARIABLE, "")
    assert history_path() is None


@given(st.lists(st.text(), max_size=5))
def test_any_entry_comes_back(tmp_path_factory: pytest.TempPathFactory, entries: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "any-history.jsonl"
    path.unlink(missing_ok=True)
    for entry in entries:
        HistoryFile(path).append(entry)
    assert HistoryFile(path).load() == entries


def test_a_large_file_is_cut_down(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = HistoryFile(path)
    long = "x" * 2000
    count = LARGEST // len(long) + 2 * ENTRIES
    path.write_text("".join(f'"{number} {long}"\n' for number in range(count)))
    entries = history.load()
    assert 0 < len(entries) <= ENTRIES
    assert entries[-1].startswith(f"{count - 1} ")
    assert path.stat().st_size <= LARGEST
    assert HistoryFile(path).load() == entries
    assert list(tmp_path.iterdir()) == [path]
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_line_that_was_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    HistoryFile(path).append("first")
    with path.open("ab") as file:
        file.write(b'"seco')
    HistoryFile(path).append("third")
    assert HistoryFile(path).load() == ["first", "third"]


def test_only_the_last_entries_are_offered(tmp_path: Path) -> None:
    history = HistoryFile(tmp_path / "history.jsonl")
    for number in range(ENTRIES + 10):
        history.append(str(number))
    assert history.load() == [str(number) for number in range(10, ENTRIES + 10)]


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not a file"):
        HistoryFile(tmp_path)


def test_a_file_that_went_away(tmp_path: Path) -> None:
    """Nobody's chat ends because an entry is not kept."""
    folder = tmp_path / "state"
    history = HistoryFile(folder / "history.jsonl")
    (folder / "history.jsonl").unlink()
    folder.rmdir()
    history.append("lost")
    assert not folder.exists()
