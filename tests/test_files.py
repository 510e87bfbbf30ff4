"""Files are read with errors that say what is wrong, and replaced whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import pytest
from hypothesis import strategies as st

from mlc_llm.errors import ConversionError
from mlc_llm.files import (
    MOST_NESTED,
    atomic_file,
    is_file,
    is_lfs_pointer,
    is_nested_deeper,
    json_in_utf8,
    parse_json_object,
    read_file,
    read_json_object,
    refuse_lfs_pointer,
    write_atomically,
)
from mlc_llm.testing import raises

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234\n"


@pytest.mark.parametrize("durable", [True, False])
def test_writes_and_replaces(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old", durable=durable)
    write_atomically(path, b"new", durable=durable)
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_has_the_permissions_of_an_ordinary_file_or_of_a_private_one(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode
    with atomic_file(tmp_path / "c", private=True) as file:
        file.write(b"secret")
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o600


def test_a_failure_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text, not bytes")  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        _write_half(path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def _write_half(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"half of")
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("content", "code", "named"),
    [
        (b"", "file-empty", ""),
        (b" \n", "file-empty", ""),
        (POINTER, "lfs-pointer", "git lfs pull"),
        (b"{", "json-malformed", ""),
        (b"\xff{}", "json-malformed", ""),
        (b"[" * 100_000, "json-malformed", ""),
        (b'{"a":' * 100 + b"[]" + b"}" * 100, "json-malformed", ""),
        (b"9" * 5000, "json-malformed", ""),
        (b"[1]", "json-malformed", "list"),
        (b'"text"', "json-malformed", "str"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_is_not_a_json_object(tmp_path: Path, content: bytes, code: str, named: str) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with raises(code, path, named, error=ConversionError):
        read_json_object(path, ConversionError)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with raises("file-unreadable", path, error=ConversionError):
            read_file(path, ConversionError)


def test_a_json_object(tmp_path: Path) -> None:
    write_atomically(tmp_path / "data.json", '{"ä": [1, null]}'.encode())
    assert read_json_object(tmp_path / "data.json", ConversionError) == {"ä": [1, None]}


KILLED = """
import os, sys, time
from pathlib import Path
from mlc_llm.files import atomic_file
with atomic_file(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("begun", flush=True)
    sys.stdin.read(1)
    os._exit(9)
"""


def test_what_a_killed_process_left_goes_when_the_file_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "data [1].json"
    stranger = tmp_path / ".data [1].json.bak.tmp"
    stranger.write_bytes(b"mine")
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        [temporary] = set(tmp_path.iterdir()) - {stranger}
        os.utime(temporary, (0, 0))
        write_atomically(path, b"1")
        assert temporary.exists()  # as long as it is written
        process.stdin.write(b"x")
        process.stdin.close()
        process.wait()
    assert temporary.exists()
    write_atomically(path, b"2")
    assert set(tmp_path.iterdir()) == {path, stranger}
    assert path.read_bytes() == b"2"


def test_a_young_file_may_be_in_use(tmp_path: Path) -> None:
    temporary = tmp_path / ".data.json.0123abcd.tmp"
    temporary.write_bytes(b"half")
    write_atomically(tmp_path / "data.json", b"1")
    assert temporary.exists()


def test_pointers(tmp_path: Path) -> None:
    assert is_lfs_pointer(POINTER)
    assert not is_lfs_pointer(POINTER[:20])
    (tmp_path / "weights").write_bytes(b"\0" * 100)
    refuse_lfs_pointer(tmp_path / "weights", ConversionError)
    (tmp_path / "weights").write_bytes(POINTER)
    with raises("lfs-pointer", tmp_path / "weights", error=ConversionError):
        refuse_lfs_pointer(tmp_path / "weights", ConversionError)


def test_levels_of_lists_and_objects() -> None:
    assert not is_nested_deeper({}, 1)
    assert not is_nested_deeper({"a": [1]}, 2)
    assert is_nested_deeper({"a": [1], "b": ({},)}, 2)
    itself: dict[str, Any] = {}
    itself["a"] = itself["b"] = itself
    assert is_nested_deeper(itself)


@hypothesis.given(st.integers(1, 120), st.booleans())
def test_json_is_read_up_to_a_depth(depth: int, lists: bool) -> None:
    opened, closed = ("[", "]") if lists else ('{"a": ', "}")
    text = '{"a": ' + opened * (depth - 1) + "1" + closed * (depth - 1) + "}"
    path = Path("data.json")
    if depth <= MOST_NESTED:
        assert parse_json_object(text.encode(), path, ConversionError)
        return
    with pytest.raises(ConversionError, match="nested too deeply"):
        parse_json_object(text.encode(), path, ConversionError)


@pytest.mark.parametrize(
    ("name", "mib"), [("config.json", 4), ("tokenizer.json", 128), ("data.json", 64)]
)
def test_a_file_has_a_size_that_its_kind_may_have(tmp_path: Path, name: str, mib: int) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(b"{}")
        file.truncate(mib * 2**20 + 1)
    with pytest.raises(ConversionError, match=f"larger than the {mib} MiB"):
        read_file(path, ConversionError)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
def test_encodings_of_json(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "data.json"
    path.write_bytes('{"ä": "🦙"}'.encode(encoding))
    assert read_json_object(path, ConversionError) == {"ä": "🦙"}
    assert json_in_utf8(path.read_bytes()) == '{"ä": "🦙"}'.encode()


def test_what_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user who is not root, to whom nothing is forbidden."""

    def forbidden(*_: Any, **__: Any) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    path = tmp_path / "data.json"
    path.write_text("{}")
    monkeypatch.setattr(Path, "open", forbidden)
    monkeypatch.setattr(Path, "stat", forbidden)
    for read in (read_file, refuse_lfs_pointer, is_file):
        with pytest.raises(ConversionError, match=r"data\.json cannot be read: Permission denied"):
            read(path, ConversionError)
