"""Files that look like model libraries from outside: an object file's head, and a record."""

from __future__ import annotations

import platform
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.library.cache import LIBRARY_SUFFIX
from mlc_llm.plugin import LibraryRecord, LibraryRequest, ModelSpec
from mlc_llm.quantization import plan
from mlc_llm.registry.registry import Registry
from mlc_llm.version import tvm_version

SPEC = ModelSpec(architecture="llama", shape={"hidden_size": 64}, plan=plan("q4f16_1"))
ARM = platform.machine().lower() in ("arm64", "aarch64")


def object_head(cut_off: bool = False, foreign: bool = False) -> bytes:
    """The first bytes of a shared library of this machine.

    Args:
        cut_off: whether it promises more bytes than the file has (ELF).
        foreign: whether it is for another processor.
    """
    arm = foreign != ARM
    if sys.platform == "darwin":
        return b"\xcf\xfa\xed\xfe" + struct.pack("<I", 0x0100000C if arm else 0x01000007)
    if sys.platform == "win32":
        pe = b"PE\0\0" + struct.pack("<H", 0xAA64 if arm else 0x8664)
        return b"MZ" + b"\0" * 58 + struct.pack("<I", 64) + pe
    ident = b"\x7fELF\x02\x01\x01" + b"\0" * 9
    sections = (1 << 20, 64, 20) if cut_off else (0, 64, 0)
    return ident + struct.pack(
        "<HHIQQQIHHHHHH",
        *(3, 183 if arm else 62, 1, 0, 0, sections[0]),
        *(0, 64, 56, 0, sections[1], sections[2], 0),
    )


@pytest.fixture
def suffix() -> str:
    return LIBRARY_SUFFIX


@pytest.fixture
def head() -> Callable[..., bytes]:
    return object_head


@pytest.fixture
def target() -> dict[str, Any]:
    return {"kind": "llvm", "mcpu": "x86-64-v3"}


@pytest.fixture
def record(target: dict[str, Any]) -> LibraryRecord:
    """A record that fits ``request_`` on this machine."""
    return LibraryRecord(
        tvm=tvm_version(), project="0.1.0", spec=SPEC, device="cpu", target=target, cpu_features=[]
    )


@pytest.fixture
def write(record: LibraryRecord) -> Callable[..., Path]:
    """Write a library file whose record has some fields changed."""

    def write_library(path: Path, **changes: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        changed = record.model_copy(update=changes)
        path.write_bytes(object_head() + b"code" + changed.embedded().encode() + b"\0more code")
        return path

    return write_library


@pytest.fixture
def make_request(tmp_path: Path, target: dict[str, Any]) -> Callable[..., LibraryRequest]:
    """A request, with some fields changed."""

    def make(**changes: Any) -> LibraryRequest:
        model = tmp_path / "Model-7B-q4f16_1-MLC"
        model.mkdir(exist_ok=True)
        fields = {"spec": SPEC, "device": "cpu", "target": target, "model_path": model}
        return LibraryRequest(**{**fields, **changes})

    return make


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The core's own plugins."""
    monkeypatch.delenv("MLC_LLM_ALLOW_PREBUILT", raising=False)
    return Registry(allowed=[])
