"""Headers of GGUF files against the gguf package, and malformed ones."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc_llm.errors import ConversionError
from mlc_llm.sources import gguf_cursor
from mlc_llm.sources.gguf_file import GGUFHeader, read_header
from mlc_llm.testing import raises

from .gguf_files import llama_metadata, llama_tensors, random_blocks, write_file

STRING, ARRAY, UINT32 = 8, 9, 4
F32, Q4_K = 0, 12


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def setting(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str, shape: tuple[int, ...], kind: int = F32, offset: int = 0) -> bytes:
    sizes = struct.pack(f"<{len(shape)}Q", *reversed(shape))
    return text(name) + struct.pack("<I", len(shape)) + sizes + struct.pack("<IQ", kind, offset)


def file_of(
    path: Path,
    settings: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    *,
    version: bytes = struct.pack("<I", 3),
    data: int = 4096,
) -> Path:
    """A file with those settings and tensors, and ``data`` bytes after the header."""
    settings, tensors = settings or [], tensors or []
    counts = struct.pack("<QQ", len(tensors), len(settings))
    header = b"".join([b"GGUF", version, counts, *settings, *tensors])
    path.write_bytes(header + bytes(-len(header) % 32 + data))
    return path


def test_equals_the_package(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    settings = llama_metadata(
        general__bool=True, **{"a.float": 0.1, "an.array": [1, 2, 3], "texts": ["", "ä", "日本"]}
    )
    write_file(path, llama_tensors({"norm": "F32", "ffn": "Q4_K", "": "Q6_K"}), settings)
    theirs, ours = gguf.GGUFReader(path), read_header(path)
    fields = {key: field.contents() for key, field in theirs.fields.items()}
    wanted = {key: value for key, value in fields.items() if not key.startswith("GGUF.")}
    assert ours.metadata == wanted
    assert list(ours.tensors) == [one.name for one in theirs.tensors]
    for one in theirs.tensors:
        entry = ours.tensors[one.name]
        assert entry.type == one.tensor_type.name
        assert entry.shape == tuple(int(size) for size in reversed(one.shape))
        assert (entry.begin, entry.end) == (one.data_offset, one.data_offset + one.n_bytes)


@pytest.mark.parametrize("kind", sorted({*range(13)} - {STRING, ARRAY}))
def test_every_kind_of_setting(tmp_path: Path, kind: int) -> None:
    dtype = "BbHhIif?..Qqd"[kind]
    value = struct.pack(f"<{dtype}", 1)
    header = read_header(file_of(tmp_path / "f", [setting("key", kind, value)]))
    assert header.metadata == {"key": 1}
    many = struct.pack("<IQ", kind, 3) + 3 * value
    header = read_header(file_of(tmp_path / "f", [setting("key", ARRAY, many)]))
    assert header.metadata == {"key": [1, 1, 1]}


def array(kind: int, count: int, data: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + data


HUGE = 2**62
MALFORMED: dict[str, tuple[list[bytes], list[bytes], tuple[str, ...]]] = {
    "a key twice": ([setting("k", UINT32, bytes(4))] * 2, [], ("k", "twice")),
    "an unknown kind of value": ([setting("k", 13, bytes(8))], [], ("k", "13")),
    "arrays in an array": ([setting("k", ARRAY, array(ARRAY, 1, bytes(12)))], [], ("k", "9")),
    "a huge array": ([setting("k", ARRAY, array(UINT32, HUGE))], [], ("k", str(HUGE))),
    "an array beyond the end": ([setting("k", ARRAY, array(UINT32, 4000))], [], ("4000",)),
    "texts beyond the end": ([setting("k", ARRAY, array(STRING, 4000))], [], ("4000",)),
    "a text beyond the end": ([setting("k", STRING, struct.pack("<Q", 2**40))], [], ()),
    "a key that is no text": ([setting(b"\xff", UINT32, bytes(4))], [], ("key",)),  # type: ignore[arg-type]
    "a key beyond the end": ([struct.pack("<Q", 2**63)], [], ("key",)),
    "an alignment of 3": ([setting("general.alignment", UINT32, b"\3\0\0\0")], [], ("3",)),
    "an alignment of 0": ([setting("general.alignment", UINT32, bytes(4))], [], ("0",)),
    "a text as alignment": ([setting("general.alignment", STRING, text("x"))], [], ("'x'",)),
    "no axes": ([], [tensor("w", ())], ("w", "0 axes")),
    "five axes": ([], [tensor("w", (1, 1, 1, 1, 1))], ("w", "5 axes")),
    "a name twice": ([], [tensor("w", (8,)), tensor("w", (8,), offset=32)], ("w", "twice")),
    "bytes of two": ([], [tensor("w", (9,)), tensor("v", (8,), offset=32)], ("w", "v")),
    "an odd offset": ([], [tensor("w", (8,), offset=4)], ("w", "4")),
    "an offset beyond the end": ([], [tensor("w", (8,), offset=2**40)], ("w",)),
    "an offset beyond counting": ([], [tensor("w", (8,), offset=2**64 - 32)], ("w",)),
    "a shape beyond the end": ([], [tensor("w", (2**62, 2**62))], ("w",)),
    "half a block": ([], [tensor("w", (2, 128), Q4_K)], ("w", "128", "Q4_K")),
}


@pytest.mark.parametrize(("given_settings", "tensors", "named"), MALFORMED.values(), ids=MALFORMED)
def test_malformed(
    tmp_path: Path, given_settings: list[bytes], tensors: list[bytes], named: tuple[str, ...]
) -> None:
    path = file_of(tmp_path / "model.gguf", given_settings, tensors)
    with raises("checkpoint-damaged", path, *named, error=ConversionError):
        read_header(path)


@pytest.mark.parametrize("counts", [(HUGE, 0), (0, HUGE), (2**18, 0), (0, 2**16), (2**64 - 1, 1)])
def test_counts_beyond_the_file(tmp_path: Path, counts: tuple[int, int]) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, *counts) + bytes(1000))
    with raises("checkpoint-damaged", path, error=ConversionError):
        read_header(path)


@pytest.mark.parametrize("kind", [4, 5, 31, 36, 42, 2**32 - 1])
def test_an_unknown_type(tmp_path: Path, kind: int) -> None:
    path = file_of(tmp_path / "model.gguf", [], [tensor("blk.0.w", (8,), kind)])
    with raises("dtype-unsupported", path, "blk.0.w", kind, error=ConversionError):
        read_header(path)


@pytest.mark.parametrize(
    ("version", "named"),
    [
        (struct.pack("<I", 1), "1"),
        (struct.pack("<I", 4), "4"),
        (struct.pack(">I", 3), "big-endian"),
    ],
)
def test_another_version(tmp_path: Path, version: bytes, named: str) -> None:
    path = file_of(tmp_path / "model.gguf", version=version)
    with raises("gguf-version", path, named, error=ConversionError):
        read_header(path)


@pytest.mark.parametrize("content", [b"", b"GG", b"GGUF", b"PK\3\4" + bytes(100)])
def test_not_gguf(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f.gguf").write_bytes(content)
    with raises("checkpoint-damaged", tmp_path / "f.gguf", error=ConversionError):
        read_header(tmp_path / "f.gguf")


def test_git_lfs_pointer(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with raises("lfs-pointer", path, "git lfs pull", error=ConversionError):
        read_header(path)


def test_a_header_that_is_too_long_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_cursor, "LONGEST_HEADER", 5000)
    monkeypatch.setattr(gguf_cursor, "_CHUNK", 100)
    path = file_of(tmp_path / "f", [setting("k", STRING, text(b"x" * 5001))])
    with raises("checkpoint-damaged", path, 5000, error=ConversionError):
        read_header(path)


SMALL = b"".join(
    [
        b"GGUF",
        struct.pack("<IQQ", 3, 2, 3),
        setting("general.architecture", STRING, text("llama")),
        setting("tokens", ARRAY, array(STRING, 2, text("a") + text("bc"))),
        setting("general.alignment", UINT32, struct.pack("<I", 32)),
        tensor("w", (2, 8)),
        tensor("v", (1, 256), Q4_K, 64),
    ]
)
SMALL += bytes(-len(SMALL) % 32) + bytes(64 + 144)


def outcome(read: Callable[[], GGUFHeader]) -> GGUFHeader | str:
    """A header, or the code of the error; anything else is raised."""
    try:
        return read()
    except ConversionError as error:
        return error.code


def test_cut_short_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(SMALL)
    assert isinstance(outcome(lambda: read_header(path)), GGUFHeader)
    for length in range(len(SMALL)):
        path.write_bytes(SMALL[:length])
        assert outcome(lambda: read_header(path)) == "checkpoint-damaged", length


@settings(max_examples=300)
@given(st.binary(min_size=1, max_size=9), st.integers(0, len(SMALL)), st.booleans())
def test_other_bytes_anywhere(
    tmp_path_factory: pytest.TempPathFactory, change: bytes, at: int, inserted: bool
) -> None:
    """They are refused, or what is read lies in the file."""
    path = tmp_path_factory.mktemp("header") / "f"
    path.write_bytes(SMALL[:at] + change + SMALL[at + (0 if inserted else len(change)) :])
    header: Any = outcome(lambda: read_header(path))
    if isinstance(header, str):
        assert header in ("checkpoint-damaged", "dtype-unsupported", "gguf-version")
        return
    for entry in header.tensors.values():
        assert 0 <= entry.begin <= entry.end <= path.stat().st_size


def test_padding_between_tensors_is_allowed(tmp_path: Path) -> None:
    path = file_of(tmp_path / "f", [], [tensor("w", (8,)), tensor("v", (8,), offset=1024)])
    entries = read_header(path).tensors
    assert entries["v"].begin - entries["w"].begin == 1024


def test_any_alignment(tmp_path: Path) -> None:
    path = tmp_path / "f"
    stored = random_blocks("Q8_0", 3, 32)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(256)
    for name in ("w", "v"):
        writer.add_tensor(name, stored, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    entry = read_header(path).tensors["v"]
    assert entry.begin % 256 == 0
    assert path.read_bytes()[entry.begin : entry.end] == stored.tobytes()
    assert np.prod(entry.shape) == 96
